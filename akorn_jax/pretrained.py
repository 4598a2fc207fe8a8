"""Trained models for use in Python: of a run's directory, or of a file of official weights."""

import dataclasses
from collections.abc import Sequence
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
from akorn_jax.evaluation.pictures import Segmenter
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

    def segment(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray | list[np.ndarray]:
        """Label maps at the images' own sizes, the same that `--mode=segment` writes of them.

        Args:
            images: `[N, H, W, 3]` uint8, or a sequence of `[H, W, 3]` uint8 of any sizes.

        Returns:
            int32 `[N, H, W]` of an array, of a sequence a list of `[H, W]`.

        Raises:
            ValueError: an image is of another shape or type.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ValueError(
                    f"an image is {image.dtype}{list(image.shape)}: uint8 [H, W, 3] is needed"
                )
        found = []
        with self.segmenter() as segmenter:
            for first in range(0, len(images), segmenter.batch_size):
                some = images[first : first + segmenter.batch_size]
                scaled = {place: segmenter.scaled(image) for place, image in enumerate(some)}
                for segments, image in zip(segmenter.batch(scaled, first), some, strict=True):
                    found.append(segments.at(image.shape[:2]))
        return np.stack(found) if isinstance(images, np.ndarray) else found

    def segmenter(self) -> Segmenter:
        """Segments pictures batch by batch."""
        return Segmenter(
            *(self.model, self.task, self.config),
            run_config.input_size(self.config),
            step=self.step,
            task_state=self.task_state,
        )


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
