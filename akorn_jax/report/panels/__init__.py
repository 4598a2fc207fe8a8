"""Parts of the report that show what a model did inside, each found by its file.

A panel is `panels/NAME.py` with

    TITLE, ORDER                   heading in the page's navigation; panels are sorted by ORDER
    applies(output) -> bool        whether a model's output has what the panel shows
    render(run, outputs, examples) -> dict      what `panels/NAME.html.j2` is rendered with

where `outputs` are those of the evaluation for a few scenes, by the scene's place in the evaluated
split: `ModelOutput`s of one image, without the batch axis (trajectories are `[T, ...]`), as NumPy
arrays. Panels ask for parts and never for the model's name.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data.records import Examples
from akorn_jax.evaluation.predict import predict
from akorn_jax.outputs import ModelOutput
from akorn_jax.report.panels.interpolation import following
from akorn_jax.tasks.base import Task

PyTree = Any

NUM_BETWEEN = 9  # scenes of an interpolation, its ends included

# Parts of a trajectory that are of one moment: `[B, ...]`.
WITHOUT_STEPS = ("initial", "final_energy")


def found() -> dict[str, ModuleType]:
    """All panels by name, in the order of the page."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return dict(sorted(modules.items(), key=lambda item: item[1].ORDER))


def outputs(
    model: nnx.Module,
    task: Task,
    examples: Examples,
    config: ConfigDict,
    indices: Sequence[int],
    *,
    step: int = 0,
    task_state: PyTree = (),
) -> dict[int, ModelOutput]:
    """What the model gave for scenes in the evaluation (without up-tiling), with trajectories.

    A model that has `interpolate(first, last, *, num_images)` also gives, as the trajectory
    "interpolation", the scenes on the way from each scene to the next one.
    """
    config = config.copy_and_resolve_references()
    config.eval.up_tiling = 1
    rows = predict(
        *(model, task, examples, config),
        reduce=_by_image,
        step=step,
        task_state=task_state,
        indices=indices,
        trajectory=True,
    )
    images = [
        jax.tree.map(lambda part, row=row: part[row], batch)
        for batch in rows
        for row in range(len(jax.tree.leaves(batch)[0]))
    ]
    found = dict(zip(sorted(set(indices)), images, strict=True))
    return _interpolated(model, found, examples) if hasattr(model, "interpolate") else found


def _by_image(output: ModelOutput, batch: Mapping[str, jax.Array]) -> ModelOutput:
    """All parts with the batch axis first."""
    del batch
    trajectory = output.trajectory
    if trajectory is not None:
        trajectory = {
            name: tuple(
                part if name in WITHOUT_STEPS else jnp.moveaxis(part, 1, 0) for part in parts
            )
            for name, parts in trajectory.items()
        }
    return ModelOutput(**{**vars(output), "trajectory": trajectory})


def _interpolated(
    model: nnx.Module, outputs: Mapping[int, ModelOutput], examples: Examples
) -> dict[int, ModelOutput]:
    graphdef, state = nnx.split(model)

    @jax.jit
    def between(state: PyTree, first: jax.Array, last: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state).interpolate(first, last, num_images=NUM_BETWEEN)

    found = {}
    for pair in following(list(outputs)).items():
        ends = (examples.images[i].astype(np.float32) / 255 for i in pair)
        scenes = np.asarray(between(state, *ends))
        output = outputs[pair[0]]
        trajectory = {**(output.trajectory or {}), "interpolation": (scenes,)}
        found[pair[0]] = dataclasses.replace(output, trajectory=trajectory)
    return found
