"""Draws the README's pictures, keeps a run's weights and runs the tour on them again.

    python -m docs.make_figures --demo=runs/demo
    python -m docs.make_figures --kept=runs/tetrominoes  # of configs/demo.py

The first writes figures/segmentation.png; the second figures/oscillators.gif,
checkpoints/tetrominoes_akorn and the outputs of tour.ipynb, so that these are of the same run.
"""

import argparse
import json
import shutil
from pathlib import Path

import nbclient
import nbformat
import numpy as np
from etils import epath

from akorn_jax import evaluate, run_config
from akorn_jax.evaluation import plots
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.report import animation, page, panels, run, scenes
from akorn_jax.report.panels import oscillators
from akorn_jax.training import checksums, train_state
from akorn_jax.training.checkpoint import TEMPORARY, Checkpoints

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoints" / "tetrominoes_akorn"
NUM_SCENES = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", help="an evaluated run, of which pictures are drawn")
    parser.add_argument("--kept", help="an evaluated run, whose weights are kept")
    options = parser.parse_args()
    if options.demo:
        segmentation(epath.Path(options.demo).resolve(), HERE / "figures")
    if options.kept:
        kept = epath.Path(options.kept).resolve()
        follow_oscillators(kept, HERE / "figures")
        checkpoint(kept, CHECKPOINT)
        path = HERE / "tour.ipynb"
        nbformat.write(tour(path), path)


def segmentation(workdir: epath.Path, folder: Path) -> None:
    """Scenes from the best to the worst, at even distances in the ranking, and what was found."""
    result = run.read(workdir, run_config.from_workdir(workdir))
    examples = evaluate.load(result.config)
    scores = result.scores
    chosen = np.array(scenes.spread(scores["fg_ari"], NUM_SCENES)[::-1])
    true, pred = examples.segmentation[chosen], page.predictions(result, examples)[chosen]
    captions = [f"FG-ARI {scores['fg_ari'][i]:.2f}, mBO {scores['mbo'][i]:.2f}" for i in chosen]
    folder.mkdir(exist_ok=True)
    with (folder / "segmentation.png").open("wb") as file:
        matched = match_labels(true, pred, ignore_ids=examples.ignore_ids)
        plots.segmentation(file, examples.images[chosen], true, matched, captions)


def follow_oscillators(workdir: epath.Path, folder: Path) -> None:
    """Oscillators in motion, of scenes that are chosen alike."""
    result = run.read(workdir, run_config.from_workdir(workdir))
    checkpoint = evaluate.restore(result.config, workdir)
    examples = evaluate.load(result.config)
    shown = scenes.spread(result.scores["fg_ari"], page.NUM_SCENES)[::-1]
    outputs = panels.outputs(checkpoint.model, checkpoint.task, examples, result.config, shown)
    frames = oscillators.follow({i: outputs[i] for i in shown}, result.config, examples)
    folder.mkdir(exist_ok=True)
    animation.write(folder / "oscillators.gif", frames, examples)


def checkpoint(workdir: epath.Path, folder: Path) -> None:
    """The run's config, scores and averaged weights alone, as a directory that can be evaluated."""
    config = run_config.from_workdir(workdir)
    step, model, *_ = evaluate.restore(config, workdir)
    if folder.exists():
        shutil.rmtree(folder)
    run_config.save(config, epath.Path(folder))
    shutil.copy(workdir / "metrics.json", folder)
    steps = epath.Path(folder / "checkpoints")
    with Checkpoints(steps) as checkpoints:
        checkpoints.save(step, {"ema": train_state.split(model)[1:]})
    for note in folder.rglob("commit_success.txt"):  # where it was written, which is nowhere now
        note.unlink()
    checksums.write(steps, str(step), TEMPORARY)


def tour(path: Path, workdir: epath.Path | None = None) -> nbformat.NotebookNode:
    """The notebook, run on the checkpoint that it names or on another directory.

    What it says of the directory stays as it is.
    """
    notebook = nbformat.read(path, as_version=4)
    setting = next(cell for cell in notebook.cells if "workdir" in cell.metadata.get("tags", ()))
    written = setting.source
    if workdir is not None:
        setting.source = f"workdir = {json.dumps(str(workdir))}"
    resources = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    setting.source = written
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    return notebook


if __name__ == "__main__":
    main()
