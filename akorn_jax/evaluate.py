"""Scores a trained model on held-out scenes, beside what needs no training."""

import io
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import rich.box
import rich.console
import rich.table
from absl import logging
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import data, progress
from akorn_jax import state as states
from akorn_jax.checkpoint import Checkpoints
from akorn_jax.data import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import baselines, plots, segmentation
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.metrics import has_object, segmentation_scores

NUM_PICTURES = 16

Scores = dict[str, np.ndarray]


def evaluate(
    config: ConfigDict, workdir: epath.Path, others: Sequence[ConfigDict] = ()
) -> dict[str, Any]:
    """Evaluates the averaged weights of a run's newest checkpoint.

    Writes `metrics.json` (means over images, in [0, 1]), `metrics_per_image.npz` and
    `figures/segmentation.png`, and prints a table; for each other dataset the same, with the
    dataset in the files' names.

    Args:
        config: of the run; `model.num_steps` may differ from what was trained with.
        workdir: of the run.
        others: protocols of datasets that the model was not trained on.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: if there is no checkpoint.
    """
    untrained = states.build_model(config.model, config.seed)
    step, trained = restore(untrained, workdir)
    summary = evaluate_on(config.data, config, step, trained, untrained, workdir, suffix="")
    for protocol in others:
        suffix = "-" + protocol.name.replace("/", "-")
        evaluate_on(protocol, config, step, trained, untrained, workdir, suffix)
    return summary


def evaluate_on(
    protocol: ConfigDict,
    config: ConfigDict,
    step: int,
    trained: nnx.Module,
    untrained: nnx.Module,
    workdir: epath.Path,
    suffix: str,
) -> dict[str, Any]:
    """Scores on one dataset; `suffix` ends the names of the files."""
    examples = data.load(protocol, config.eval.split, config.data_dir)
    logging.info("Evaluating step %d on %d scenes of %s.", step, len(examples), protocol.name)
    predictions = {"trained": segment(trained, examples, protocol, config)}
    if config.eval.baselines:
        predictions["untrained"] = segment(untrained, examples, protocol, config)
        predictions |= controls(examples, protocol, config)
    ids = {"background_ids": examples.background_ids, "ignore_ids": examples.ignore_ids}
    scores = {
        name: segmentation_scores(examples.labels, labels, **ids)
        for name, labels in predictions.items()
    }
    summary = {
        "step": step,
        "dataset": protocol.name,
        "split": config.eval.split,
        "num_images": len(examples),
        "num_without_objects": int(np.sum(~has_object(examples.labels, **ids))),
        "up_tiling": config.eval.up_tiling,
        **summarize(scores["trained"]),
        "baselines": {name: summarize(s) for name, s in scores.items() if name != "trained"},
        "by_color": by_color(scores, examples),
    }
    write(workdir, summary, scores["trained"], examples, predictions["trained"], suffix)
    report(summary, workdir / "figures" / f"segmentation{suffix}.png")
    return summary


def restore(model: nnx.Module, workdir: epath.Path) -> tuple[int, nnx.Module]:
    """The step of the newest intact checkpoint, and the model with its averaged weights.

    Raises:
        UserError: if there is none.
    """
    graphdef, params, buffers = states.split(model)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore_latest({"ema": (params, buffers)}, partial=True)
    if restored is None:
        raise UserError(f"--workdir={workdir}: has no checkpoint; train first.")
    return restored.step, nnx.merge(graphdef, *restored.state["ema"])


def segment(
    model: nnx.Module, examples: Examples, protocol: ConfigDict, config: ConfigDict
) -> np.ndarray:
    """The model's label maps `[N, H, W]`."""
    with progress.bar(len(examples)) as bar:
        return segmentation.label_maps(
            model,
            examples.images,
            key=jax.random.key(config.eval.seed),
            num_clusters=protocol.num_clusters,
            batch_size=config.eval.batch_size,
            factor=config.eval.up_tiling,
            dims=config.eval.pca,
            num_workers=config.eval.num_workers or None,
            progress=bar.update,
        )


def controls(examples: Examples, protocol: ConfigDict, config: ConfigDict) -> dict[str, np.ndarray]:
    """Label maps `[N, H, W]` of what needs no model: what a score says is what it adds to these."""
    images, clusters = examples.images, protocol.num_clusters
    workers = {"num_workers": config.eval.num_workers or None}
    maps = {"position": baselines.position(images, clusters)}
    if "patch_size" in config.model:
        maps["token colors"] = baselines.token_colors(
            images, clusters, patch_size=config.model.patch_size, **workers
        )
    maps["pixel colors"] = baselines.pixel_colors(images, clusters, **workers)
    maps["color components"] = baselines.color_components(images, clusters, **workers)
    return maps


def summarize(scores: Scores) -> dict[str, float]:
    """Mean over images of each score, and its standard error as `<score>_se`.

    Images without a score (NaN) are left out.
    """
    summary = {}
    for name, values in scores.items():
        values = values[~np.isnan(values)]
        summary[name] = float(np.mean(values)) if len(values) else None
        if len(values) > 1:
            summary[f"{name}_se"] = float(np.std(values, ddof=1) / len(values) ** 0.5)
    return summary


def by_color(scores: dict[str, Scores], examples: Examples) -> dict[str, Any]:
    """The scores of scenes whose objects all differ in colour, and of those where one repeats.

    Empty where the dataset does not say what colour its objects have.
    """
    attributes = examples.attributes
    if not {"color", "visibility"} <= attributes.keys():
        return {}
    repeated = baselines.repeats_color(
        attributes["color"], attributes["visibility"], first_object=len(examples.background_ids)
    )
    return {
        name: {
            "num_images": int(np.sum(rows)),
            **{
                method: summarize({score: values[rows] for score, values in s.items()})
                for method, s in scores.items()
            },
        }
        for name, rows in (("distinct", ~repeated), ("repeated", repeated))
    }


def write(
    workdir: epath.Path,
    summary: dict[str, Any],
    scores: Scores,
    examples: Examples,
    pred: np.ndarray,
    suffix: str,
) -> None:
    """Writes the files of an evaluation, each whole or not at all.

    Raises:
        UserError: if the directory cannot be written.
    """
    shown = slice(NUM_PICTURES)
    captions = [
        f"FG-ARI {f:.2f}, mBO {m:.2f}"
        for f, m in zip(scores["fg_ari"][shown], scores["mbo"][shown], strict=True)
    ]
    true = examples.labels[shown]
    matched = match_labels(true, pred[shown], ignore_ids=examples.ignore_ids)
    picture, per_image = io.BytesIO(), io.BytesIO()
    plots.segmentation(picture, examples.images[shown], true, matched, captions)
    np.savez(per_image, record=examples.records, **scores)
    files = {
        workdir / "figures" / f"segmentation{suffix}.png": picture.getvalue(),
        workdir / f"metrics_per_image{suffix}.npz": per_image.getvalue(),
        workdir / f"metrics{suffix}.json": (json.dumps(summary, indent=2) + "\n").encode(),
    }
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.parent / f".{path.name}"
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror}).") from error


def report(summary: dict[str, Any], picture: epath.Path) -> None:
    """Prints the scores beside those of the baselines."""
    groups = summary["by_color"]
    table = rich.table.Table(
        title=f"{summary['dataset']}, {summary['num_images']} {summary['split']} scenes, "
        f"step {summary['step']}",
        caption="Mean ± standard error over scenes."
        + (" FG-ARI also where all colors differ and where one repeats." if groups else ""),
        box=rich.box.SIMPLE,
    )
    table.add_column("")
    for column in ("FG-ARI", "mBO", *(f"{name}" for name in groups)):
        table.add_column(column, justify="right", no_wrap=True)
    for method, scores in {"this model": summary, **summary["baselines"]}.items():
        name = "trained" if method == "this model" else method
        cells = [_cell(scores, "fg_ari"), _cell(scores, "mbo")]
        cells += [_cell(group[name], "fg_ari") for group in groups.values()]
        table.add_row(method, *cells, style="bold" if method == "this model" else "")
    console = rich.console.Console()
    console.print(table)
    if summary["num_without_objects"]:
        console.print(f"{summary['num_without_objects']} scenes without objects count FG-ARI 1.")
    console.print(f"Pictures: {picture}", soft_wrap=True)


def _cell(scores: dict[str, float], name: str) -> str:
    if scores[name] is None:
        return "-"
    error = scores.get(f"{name}_se")
    return f"{scores[name]:.3f}" + (f" ± {error:.3f}" if error is not None else "")
