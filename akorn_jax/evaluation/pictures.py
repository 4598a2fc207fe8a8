"""Segments of pictures of any size, at their own size."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.evaluation import segmentation
from akorn_jax.evaluation.predict import predict
from akorn_jax.evaluation.workers import Workers
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Task

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Segments:
    """What a model makes of a picture.

    Attributes:
        labels: `[h, w]` integers at the resolution of the model's masks or features; those of
            masks are their places, so 0 is the background of models that have one.
        scores: of each label, in [0, 1]: the mean over its pixels of the mask that won them, or,
            of features, the length of their mean (all have length 1): 1 where they agree.
    """

    labels: np.ndarray
    scores: dict[int, float]

    def at(self, size: tuple[int, int]) -> np.ndarray:
        """The labels by the nearest pixel, int32 `[H, W]` of size (H, W)."""
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int)
            for new, old in zip(size, self.labels.shape, strict=True)
        )
        return self.labels[rows[:, None], columns].astype(np.int32)


class Segmenter:
    """Segments batches of pictures as `config.eval` says; a context, which ends its workers.

    Args:
        model: gives masks or features.
        task: calls it.
        config: of the run.
        size: (height, width) that pictures are to have.
        step, task_state: those of the checkpoint.

    Attributes:
        size: as given.
        batch_size: how many there are to a batch.
    """

    def __init__(
        self,
        model: nnx.Module,
        task: Task,
        config: ConfigDict,
        size: tuple[int, int],
        *,
        step: int = 0,
        task_state: PyTree = (),
    ) -> None:
        self.size = size
        self.batch_size = config.eval.batch_size
        self._model, self._config, self._step, self._task_state = model, config, step, task_state
        self._task = copy.copy(task)
        self._task.inputs = "image"  # also where a run was trained on features that were kept
        self._workers = Workers(config.eval.num_workers or None)

    def scaled(self, picture: np.ndarray) -> np.ndarray:
        """A picture `[H, W, 3]` uint8 at `size`, whatever its shape."""
        height, width = self.size
        scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(scaled)

    def batch(self, pictures: Mapping[int, np.ndarray], first: int) -> Iterator[Segments]:
        """Segments of some pictures of a batch, in the order of their places.

        What is random depends on places alone, so a part of a batch gives what the whole gives.

        Args:
            pictures: place in the batch -> `[h, w, 3]` uint8 of `size`.
            first: place of the batch's first picture among all; a multiple of `batch_size`.
        """
        images = np.zeros((self.batch_size, *self.size, 3), np.uint8)
        for place, picture in pictures.items():
            images[place] = picture
        places = np.arange(self.batch_size)
        (kept,) = predict(
            self._model,
            self._task,
            Examples(images, None, {}, places, np.zeros(self.batch_size)),
            self._config,
            step=self._step,
            task_state=self._task_state,
            reduce=_keep,
            indices=sorted(pictures),
            first=first,
        )
        maps = segmentation.iterate_label_maps(iter([kept]), self._config, self._workers)
        for row, labels in enumerate(maps):
            ids, places = np.unique(labels, return_inverse=True)
            of = np.eye(len(ids))[places.ravel()]  # [h w, ids]
            if "confidence" in kept:
                scores = kept["confidence"][row].ravel() @ of / of.sum(0)
            else:
                features = kept["features"][row].reshape(labels.size, -1)
                scores = np.linalg.norm(of.T @ features, axis=1) / of.sum(0)
            yield Segments(labels, {int(i): float(s) for i, s in zip(ids, scores, strict=True)})

    def __enter__(self) -> "Segmenter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._workers.close()


def _keep(output: ModelOutput, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """What segmentation keeps, and how large the largest mask of each pixel is."""
    found = segmentation.segments(output, batch)
    found.pop("mse", None)
    if output.masks is not None:
        masks = segmentation.masks_at(output, batch)
        found["confidence"] = jnp.clip(jnp.max(masks, axis=1), 0, 1)  # [B, H, W]
    return found
