"""Contrastive learning: two views of an image are to have similar embeddings (arXiv 2002.05709)."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from akorn_jax import losses
from akorn_jax.data import augment
from akorn_jax.tasks import base

Array = jax.Array


class Task(base.Task):
    """SimCLR over the global batch.

    Args:
        temperature: divides the similarities in NT-Xent.
        normalize: compare the embeddings' directions.
        augmentation: fields of `augment.Augmentation`.
    """

    views = 2  # images that the network sees for each scene

    def __init__(
        self, *, temperature: float, normalize: bool, augmentation: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.normalize = normalize
        self.augmentation = augment.Augmentation(**augmentation)

    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context
    ) -> tuple[Array, base.Aux]:
        """NT-Xent of `batch["image"]`, uint8 `[B, H, W, 3]`; no further metrics."""
        view_key, model_key = jax.random.split(ctx.key)
        if len(batch["image"]) < 2:
            raise ValueError("contrastive learning compares scenes: batch_size must be 2 or more")
        views = augment.views(self.augmentation, view_key, batch["image"], num_views=2)
        # Views of an image stay neighbours, so a batch sharded over devices stays where it is.
        views = views.reshape(-1, *views.shape[2:])  # [2 B, H, W, 3]
        z = self.apply(model, {"image": views}, ctx.with_key(model_key)).embedding
        za, zb = z.reshape(-1, 2, z.shape[-1]).swapaxes(0, 1)
        return losses.nt_xent(za, zb, self.temperature, self.normalize), base.Aux()
