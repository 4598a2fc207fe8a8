"""Trained models for use in Python: of a run's directory, or of a file of official weights."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import convert, evaluate, run_config
from akorn_jax.convert import files
from akorn_jax.data.records import Examples
from akorn_jax.evaluation import segmentation
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Context, Task
from akorn_jax.training import train_state


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model with weights, and what it was trained with.

    Attributes:
        config: of the run; `config.eval` says how `segment` works.
        model: with the averaged weights.
        task: calls it.
        step: updates that it was trained for; 0 where that is not known.
        task_state: the task's own.
    """

    config: ConfigDict
    model: nnx.Module
    task: Task
    step: int = 0
    task_state: Any = ()

    def __call__(self, images: np.ndarray, **options: Any) -> ModelOutput:
        """What the model gives for images `[N, H, W, 3]` uint8, of the size it was trained on.

        Args:
            images: all at once; `segment` works by batches.
            options: of the model's call, e.g. `num_slots=11`, `trajectory=True`.
        """
        ctx = Context(
            jnp.asarray(self.step), jax.random.key(self.config.eval.seed), self.task_state
        )
        return self.task.apply(self.model, {self.task.inputs: jnp.asarray(images)}, ctx, **options)

    def segment(self, images: np.ndarray) -> np.ndarray:
        """Label maps `[N, H, W]` of images `[N, H, W, 3]` uint8, as the evaluation makes them."""
        count = len(images)
        examples = Examples(np.asarray(images), None, {}, np.arange(count), np.zeros(count))
        return segmentation.segment(self.model, self.task, examples, self.config, step=self.step)


def load_run(workdir: epath.PathLike) -> Pretrained:
    """The model of a run's newest intact checkpoint.

    Raises:
        UserError: the directory holds no run, or no checkpoint of it is intact.
    """
    workdir = epath.Path(workdir).expanduser()
    config = run_config.from_workdir(workdir)
    step, model, task, task_state = evaluate.restore(config, workdir)
    return Pretrained(config, model, task, step, task_state)


def load_pretrained(weights: str | Path, config: ConfigDict | str) -> Pretrained:
    """A model with official weights, in the formats of `akorn_jax.convert`.

    Args:
        weights: .pth, .ckpt, .safetensors or .npz.
        config: what model they are of: a recipe's config, or its file, "configs/X.py:variant".

    Raises:
        UserError: the file cannot be read or does not fit the model; all names are listed.
    """
    if isinstance(config, str):
        config = run_config.from_recipe(config)
    model = train_state.build_model(config.model, config.seed)
    _, averaged = files.read(Path(weights).expanduser())
    convert.load_official(model, averaged)
    return Pretrained(config, model, train_state.build("tasks", config.task))
