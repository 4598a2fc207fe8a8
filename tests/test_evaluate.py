"""An evaluation: what it writes, that it repeats itself, and that its parts agree."""

import io
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax import evaluate, optimizer
from akorn_jax.data import records
from akorn_jax.errors import UserError
from akorn_jax.evaluation.result import summarize
from akorn_jax.metrics import fg_ari
from akorn_jax.runtime import writers
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints


def checkpoint(config, workdir):
    """Writes a run's directory as after 4 steps, with other weights than the initial ones."""
    model = train_state.build_model(config.model, config.seed + 1)
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(4, train_state.create(model, tx))
    return workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A place for a trained run, made by the first test that needs it."""
    return epath.Path(tmp_path_factory.mktemp("run"))


@pytest.fixture
def trained(tiny, run):
    return run if (run / "checkpoints").exists() else checkpoint(tiny, run)


def test_writes_scores_and_pictures(tiny, trained):
    summary = evaluate.evaluate(tiny, trained)
    assert json.loads((trained / "metrics.json").read_text()) == summary
    assert summary["step"] == 4
    assert summary["dataset"] == "tetrominoes/procedural"
    assert summary["num_images"] == 16
    assert summary["num_without_objects"] == 0
    for name in (
        *("untrained", "position", "token colors", "token textures"),
        *("pixel colors", "color components"),
    ):
        assert 0 <= summary["baselines"][name]["mbo"] <= 1
    # Colour and connectedness nearly solve these scenes, and more so where no colour repeats.
    assert summary["baselines"]["color components"]["fg_ari"] > 0.9
    groups = summary["by_color"]
    assert groups["distinct"]["num_images"] + groups["repeated"]["num_images"] == 16
    distinct, repeated = (groups[g]["pixel colors"]["fg_ari"] for g in ("distinct", "repeated"))
    assert distinct > repeated + 0.2

    with np.load(trained / "metrics_per_image.npz") as per_image:
        assert per_image["record"].tolist() == list(range(16))
        np.testing.assert_allclose(per_image["fg_ari"].mean(), summary["fg_ari"])
        error = per_image["mbo"].std(ddof=1) / 4
        np.testing.assert_allclose(error, summary["mbo_se"])
    with np.load(trained / evaluate.PREDICTIONS) as kept:
        assert kept["step"] == 4
        assert kept["labels"].shape == (16, 32, 32)
        again = fg_ari(records.load(tiny.data, "test", tiny.data_dir).segmentation, kept["labels"])
        np.testing.assert_allclose(again.mean(), summary["fg_ari"])
    picture = np.asarray(Image.open(trained / "figures" / "segmentation.png").convert("RGB"))
    assert picture.std() > 30  # not blank


def test_tensorboard_shows_the_scores_beside_the_training(tiny, tmp_path):
    workdir = checkpoint(tiny, epath.Path(tmp_path))
    training = writers.SummaryWriter(workdir)
    training.write_scalars(2, {"train/loss": 1.5})
    training.write_scalars(9, {"train/loss": 0.5})  # after its last checkpoint
    training.close()
    tiny.eval.baselines = False
    other = tiny.copy_and_resolve_references().data
    summary = evaluate.evaluate(tiny, workdir, [other])
    found = EventAccumulator(str(workdir)).Reload()
    assert [event.step for event in found.Scalars("train/loss")] == [2, 9]
    for name in ("fg_ari", "mbo"):
        for kind in ("eval", "eval-tetrominoes-procedural"):
            (event,) = found.Scalars(f"{kind}/{name}")
            assert event.step == 4
            np.testing.assert_allclose(event.value, summary[name], rtol=1e-6)
    (event,) = found.Images("eval/segmentation")
    shown = Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB")
    written = Image.open(workdir / "figures" / "segmentation.png").convert("RGB")
    assert event.step == 4
    np.testing.assert_array_equal(shown, written)


def test_the_same_command_gives_the_same_numbers(tiny, trained):
    tiny.eval.baselines = False
    first = evaluate.evaluate(tiny, trained)
    assert evaluate.evaluate(tiny, trained) == first
    tiny.eval.seed = 1  # other oscillators
    assert evaluate.evaluate(tiny, trained)["mbo"] != first["mbo"]


def test_more_steps_and_tiles_at_evaluation(tiny, trained):
    tiny.eval.baselines = False
    plain = evaluate.evaluate(tiny, trained)
    tiny.model.num_steps = 5
    tiny.eval.up_tiling = 2
    finer = evaluate.evaluate(tiny, trained)
    assert finer["up_tiling"] == 2
    assert finer["mbo"] != plain["mbo"]


def test_other_datasets_have_files_of_their_own(tiny, trained):
    tiny.eval.baselines = False
    other = tiny.copy_and_resolve_references().data
    other.test = (16, 24)
    evaluate.evaluate(tiny, trained, [other])
    metrics = json.loads((trained / "metrics-tetrominoes-procedural.json").read_text())
    assert metrics["num_images"] == 8
    assert (trained / "figures" / "segmentation-tetrominoes-procedural.png").exists()


def test_a_run_without_checkpoints(tiny, tmp_path):
    with pytest.raises(UserError, match="has no checkpoint; train first"):
        evaluate.evaluate(tiny, epath.Path(tmp_path))


def test_summaries_leave_out_images_without_a_score():
    summary = summarize({"mbo": np.array([1.0, np.nan, 0.5])})
    assert summary == {"mbo": 0.75, "mbo_se": 0.25}
    assert summarize({"mbo": np.array([np.nan])}) == {"mbo": None}


def _rngs():
    return train_state.nnx.Rngs(0)
