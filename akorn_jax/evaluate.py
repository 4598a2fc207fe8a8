"""Scores a trained model on held-out scenes, beside what needs no training."""

import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import rich.box
import rich.table
from absl import logging
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import run_config
from akorn_jax.data import records
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, options, plots, segmentation
from akorn_jax.evaluation.result import Result
from akorn_jax.layers import frozen
from akorn_jax.runtime import progress, storage, writers
from akorn_jax.tasks.base import Task
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints

PyTree = Any

PREDICTIONS = "predictions.npz"  # `step` and the trained model's `labels` [N, H, W]


class Checkpoint(NamedTuple):
    """The step, the model with its averaged weights, the task and its own state."""

    step: int
    model: nnx.Module
    task: Task
    task_state: PyTree


def evaluate(
    config: ConfigDict, workdir: epath.Path, others: Sequence[ConfigDict] = ()
) -> dict[str, Any]:
    """Evaluates the averaged weights of a run's newest checkpoint, as its task wants it.

    Writes `metrics.json` (means over images, in [0, 1]), `metrics_per_image.npz`,
    `predictions.npz`, `figures/segmentation.png` and a file of TensorBoard's with the scores as
    `eval/...`, and prints a table; for each other dataset the same, with the dataset in the names.

    Args:
        config: of the run; `eval` and e.g. `model.num_steps` may differ from the training's.
        workdir: of the run.
        others: protocols of datasets that the model was not trained on.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: if there is no checkpoint, or the settings do not fit the model.
    """
    checkpoint = restore(config, workdir)
    summary = evaluate_on(config, checkpoint, workdir, suffix="")
    for protocol in others:
        other = config.copy_and_resolve_references()
        other.data = protocol
        suffix = "-" + protocol.name.replace("/", "-")
        evaluate_on(other, checkpoint, workdir, suffix)
    return summary


def evaluate_on(
    config: ConfigDict,
    checkpoint: Checkpoint,
    workdir: epath.Path,
    suffix: str,
) -> dict[str, Any]:
    """Scores on the dataset of `config.data`; `suffix` ends the names of the files."""
    examples = load(config)
    step = checkpoint.step
    logging.info("Evaluating step %d on %d scenes of %s.", step, len(examples), config.data.name)
    models = {"trained": checkpoint.model}
    if config.eval.baselines:
        models["untrained"] = untrained(config, checkpoint.model)
    result = base.evaluate(
        models,
        checkpoint.task,
        examples,
        config,
        step=step,
        task_state=checkpoint.task_state,
        other=other_run(config),
    )
    chosen = ("min_objects", "max_objects")
    summary = {
        "step": step,
        "dataset": config.data.name,
        "split": config.eval.split,
        "num_images": len(examples),
        **{name: config.eval[name] for name in chosen if config.eval[name]},
        **({"options": dict(config.eval.options)} if config.eval.options else {}),
        **result.summary,
    }
    write(workdir, summary, result, examples, suffix)
    pictures = workdir / "figures" / f"segmentation{suffix}.png"
    pictures = pictures if result.labels is not None else None
    log(config, workdir, step, result, pictures, suffix)
    print_table(summary, result, pictures)
    return summary


def untrained(config: ConfigDict, trained: nnx.Module) -> nnx.Module:
    """The model with a fresh run's weights, but for those that training leaves as they are."""
    model = train_state.build_model(config.model, config.seed)
    graphdef, params, _, rest = nnx.split(model, frozen.trainable, nnx.Param, ...)
    _, loaded, _ = nnx.split(trained, frozen.trainable, nnx.Param, ...)[1:]
    return nnx.merge(graphdef, params, loaded, rest)


def other_run(config: ConfigDict) -> base.Called | None:
    """The model of the run that `config.eval.robustness.transfer_from` names; None for none.

    Raises:
        UserError: there is no such run, or it has no checkpoint.
    """
    path = config.eval.robustness.transfer_from
    if not path:
        return None
    workdir = epath.Path(path).expanduser()
    try:
        found = restore(run_config.from_workdir(workdir), workdir)
    except UserError as error:
        raise UserError(f"config.eval.robustness.transfer_from={path}: no run; {error}") from error
    return base.Called(found.model, found.task, (jnp.asarray(found.step), found.task_state))


def load(config: ConfigDict) -> Examples:
    """The scenes that a run is evaluated on.

    Raises:
        UserError: see `records.load`.
    """
    objects = options.bounds(config.eval)
    return records.load(config.data, config.eval.split, config.data_dir, objects=objects)


def restore(config: ConfigDict, workdir: epath.PathLike) -> Checkpoint:
    """The newest intact checkpoint of a run.

    Args:
        config: of the run; of the model's fields those may differ that change no array's shape.
        workdir: of the run.

    Raises:
        UserError: if there is none.
    """
    workdir = epath.Path(workdir)
    model = train_state.build_model(config.model, config.seed)
    task = train_state.build("tasks", config.task)
    graphdef, params, buffers = train_state.split(model)
    like = {"ema": (params, buffers), "task": task.init_state()}
    with Checkpoints(workdir / "checkpoints", alone=True) as checkpoints:
        restored = checkpoints.restore_latest(like, partial=True)
    if restored is None:
        raise UserError(f"--workdir={workdir}: has no checkpoint; train first.")
    model = nnx.merge(graphdef, *restored.state["ema"])
    return Checkpoint(restored.step, model, task, restored.state["task"])


def segment(model: nnx.Module, examples: Examples, config: ConfigDict) -> np.ndarray:
    """The model's label maps `[N, H, W]`."""
    task = train_state.build("tasks", config.task)
    return segmentation.segment(model, task, examples, config)


def write(
    workdir: epath.Path,
    summary: dict[str, Any],
    result: Result,
    examples: Examples,
    suffix: str,
) -> None:
    """Writes the files of an evaluation, each whole or not at all.

    Raises:
        UserError: if the directory cannot be written.
    """
    per_image = io.BytesIO()
    np.savez(per_image, record=examples.records, **result.per_image)
    files = {
        **{_suffixed(name, suffix): content for name, content in result.files.items()},
        **{f"figures/{name}{suffix}.png": content for name, content in result.pictures.items()},
        f"metrics_per_image{suffix}.npz": per_image.getvalue(),
        f"metrics{suffix}.json": (json.dumps(summary, indent=2) + "\n").encode(),
    }
    if result.labels is not None:
        labels = io.BytesIO()
        smallest = np.min_scalar_type(int(result.labels.max()))
        np.savez_compressed(labels, step=summary["step"], labels=result.labels.astype(smallest))
        files[PREDICTIONS.replace(".", f"{suffix}.")] = labels.getvalue()
        files[f"figures/segmentation{suffix}.png"] = plots.result(result, examples)
    try:
        for name, content in files.items():
            path = workdir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.write(path, content)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror}).") from error


def log(
    config: ConfigDict,
    workdir: epath.Path,
    step: int,
    result: Result,
    pictures: epath.Path | None,
    suffix: str,
) -> None:
    """Adds scores and pictures to what TensorBoard shows of the run, at the checkpoint's step."""
    writer = writers.create_writer(workdir, wandb_project=config.wandb_project)
    kind = f"eval{suffix}"
    writer.write_scalars(step, {f"{kind}/{name}": x for name, x in result.scalars().items()})
    if pictures is not None:
        picture = plots.pixels(pictures.read_bytes())
        writer.write_images(step, {f"{kind}/segmentation": picture})
    for name, picture in result.pictures.items():
        writer.write_images(step, {f"{kind}/{name}": plots.pixels(picture)})
    writer.close()


def print_table(summary: dict[str, Any], result: Result, pictures: epath.Path | None) -> None:
    """Prints the scores beside those of the baselines."""
    table = rich.table.Table(
        title=f"{summary['dataset']}, {summary['num_images']} {summary['split']} scenes, "
        f"step {summary['step']}",
        caption="Mean ± standard error over scenes." if result.per_image else "",
        box=rich.box.SIMPLE,
        pad_edge=False,  # fits 80 characters so
    )
    table.add_column("", no_wrap=True)
    for heading in result.columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for method, scores in result.methods.items() if result.columns else ():
        ours = method == "trained"
        cells = [_cell(scores, name) for name in result.columns]
        table.add_row("this model" if ours else method, *cells, style="bold" if ours else "")
    progress.say(table)
    for note in result.notes:
        progress.say(note)
    if pictures is not None:
        progress.say(f"Pictures: {pictures}")


def _suffixed(name: str, suffix: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{suffix}{dot}{ending}"


def _cell(scores: dict[str, float], name: str) -> str:
    if scores.get(name) is None:
        return "-"
    error = scores.get(f"{name}_se")
    return f"{scores[name]:.3f}" + (f" ± {error:.3f}" if error is not None else "")
