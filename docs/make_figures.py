"""Draws the README's pictures and runs the tour again, from a trained run.

    python -m docs.make_figures --workdir=runs/demo

Writes figures/segmentation.png, figures/oscillators.gif and the outputs of tour.ipynb.
"""

import argparse
import json
from pathlib import Path

import nbclient
import nbformat
import numpy as np
from etils import epath

from akorn_jax import config as configs
from akorn_jax import evaluate
from akorn_jax import state as states
from akorn_jax.evaluation import plots
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.report import animation, oscillators, page, run, scenes

HERE = Path(__file__).parent
NUM_SCENES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="of a run that was evaluated")
    workdir = epath.Path(parser.parse_args().workdir).resolve()
    figures(workdir, HERE / "figures")
    path = HERE / "tour.ipynb"
    notebook = tour(path, workdir)
    nbformat.write(notebook, path)


def figures(workdir: epath.Path, folder: Path) -> None:
    """The pictures: scenes from the best to the worst, at even distances in the ranking."""
    result = run.read(workdir, configs.from_workdir(workdir))
    model = states.build_model(result.config.model, result.config.seed)
    _, model = evaluate.restore(model, workdir)
    examples = evaluate.load(result.config)
    scores = result.scores

    chosen = np.array(scenes.spread(scores["fg_ari"], NUM_SCENES)[::-1])
    true, pred = examples.labels[chosen], page.predictions(result, examples)[chosen]
    captions = [f"FG-ARI {scores['fg_ari'][i]:.2f}, mBO {scores['mbo'][i]:.2f}" for i in chosen]
    folder.mkdir(exist_ok=True)
    with (folder / "segmentation.png").open("wb") as file:
        matched = match_labels(true, pred, ignore_ids=examples.ignore_ids)
        plots.segmentation(file, examples.images[chosen], true, matched, captions)

    shown = scenes.spread(scores["fg_ari"], page.NUM_SCENES)[::-1]
    frames = oscillators.follow(model, result.config, examples, shown)
    animation.write(folder / "oscillators.gif", frames, examples)


def tour(path: Path, workdir: epath.Path) -> nbformat.NotebookNode:
    """The notebook, run on a directory; what it says of the directory stays as it is."""
    notebook = nbformat.read(path, as_version=4)
    setting = next(cell for cell in notebook.cells if "workdir" in cell.metadata.get("tags", ()))
    written = setting.source
    setting.source = f"workdir = {json.dumps(str(workdir))}"
    resources = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    setting.source = written
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    return notebook


if __name__ == "__main__":
    main()
