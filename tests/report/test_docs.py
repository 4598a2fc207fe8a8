"""What docs/ shows is made from runs, and can be made again."""

import json

import jax
import nbformat
import numpy as np
import pytest
from etils import epath
from flax import nnx
from PIL import Image

from akorn_jax import evaluate, run_config
from akorn_jax.metrics import fg_ari
from akorn_jax.training import train_state
from configs import base, demo
from docs import make_figures

TOUR = make_figures.HERE / "tour.ipynb"
KEPT = epath.Path(make_figures.CHECKPOINT)


@pytest.mark.slow
def test_the_tour_runs(oscillators_run):
    notebook = make_figures.tour(TOUR, oscillators_run)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 4
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    texts = [output.text for output in outputs if output.output_type == "stream"]
    assert texts[0].startswith("akorn after 12 steps; 16 scenes of tetrominoes/procedural")
    settings = [cell.source for cell in notebook.cells if cell.metadata.get("tags")]
    assert settings == ['workdir = "docs/checkpoints/tetrominoes_akorn"']


def test_the_tour_in_the_repository_was_run():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code[1:])
    assert TOUR.stat().st_size < 200_000
    texts = [output.text for output in code[1].outputs]
    assert texts == ["akorn after 2500 steps; 320 scenes of tetrominoes/procedural\n"]


def test_the_kept_checkpoint_separates_pieces(data_dir):
    config = base.complete(run_config.from_workdir(KEPT))
    config.data_dir = str(data_dir)
    config.data.test, config.eval.num_workers = (64, 96), 1
    examples = evaluate.load(config)
    untrained = train_state.build_model(config.model, config.seed)
    step, trained, *_ = evaluate.restore(config, KEPT)
    assert step == config.num_steps == 2500
    scores = [
        fg_ari(examples.segmentation, evaluate.segment(model, examples, config)).mean()
        for model in (trained, untrained)
    ]
    summary = json.loads((KEPT / "metrics.json").read_text())
    assert summary["step"] == step
    assert np.isclose(scores[0], summary["fg_ari"], atol=0.1)  # of ten times as many scenes
    assert scores[0] > scores[1] + 0.3


def test_the_kept_checkpoint_is_the_demo_and_small_and_of_no_machine():
    kept, recipe = map(run_config.to_dict, (run_config.from_workdir(KEPT), demo.get_config()))
    assert {name: kept[name] for name in ("model", "task", "optimizer", "seed")} == {
        name: recipe[name] for name in ("model", "task", "optimizer", "seed")
    }
    assert kept["data_dir"] == "data"
    files = [path for path in make_figures.CHECKPOINT.rglob("*") if path.is_file()]
    assert {path.suffix for path in files if path.parent == make_figures.CHECKPOINT} == {".json"}
    assert sum(path.stat().st_size for path in files) < 5_000_000
    for path in files:
        assert b"/tmp/" not in path.read_bytes()
        assert b"/home/" not in path.read_bytes()


def test_a_runs_weights_are_kept_alone(oscillators_config, oscillators_run, tmp_path):
    folder = tmp_path / "kept"
    for _ in range(2):  # also in place of what was there
        make_figures.checkpoint(oscillators_run, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "config.json", "metrics.json",
    ]  # fmt: skip
    theirs = evaluate.restore(oscillators_config, oscillators_run).model
    step, ours, *_ = evaluate.restore(oscillators_config, folder)
    assert step == oscillators_config.num_steps
    for a, b in zip(*(jax.tree.leaves(nnx.state(m)) for m in (theirs, ours)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (make_figures.segmentation, "segmentation.png"),
        (make_figures.follow_oscillators, "oscillators.gif"),
    ],
)
def test_pictures_are_drawn_from_a_run(draw, name, oscillators_run, tmp_path):
    draw(oscillators_run, tmp_path)
    with Image.open(tmp_path / name) as drawn, Image.open(TOUR.parent / "figures" / name) as kept:
        assert drawn.size == kept.size
