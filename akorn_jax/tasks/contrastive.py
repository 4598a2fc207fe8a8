"""Contrastive learning: views of an image, or of a class, are to have similar embeddings."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from akorn_jax import losses
from akorn_jax.data import augment
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks import base

Array = jax.Array


class Task(base.Task):
    """SimCLR (arXiv 2002.05709) or, with labels, SupCon (arXiv 2004.11362), on the global batch.

    Args:
        temperature: divides the similarities.
        normalize: compare the embeddings' directions.
        augmentation: see `augment.make`.
        labels: the field of the classes, e.g. "label"; "" learns without.
        base_temperature: with labels, the loss is multiplied by temperature / base_temperature, as
            the published code does with 0.07; 0 leaves it as it is.
    """

    views = 2  # images that the network sees for each scene

    def __init__(
        self,
        *,
        temperature: float,
        normalize: bool,
        augmentation: Mapping[str, Any],
        labels: str = "",
        base_temperature: float = 0.0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"{temperature=} must be above 0.")
        self.temperature = temperature
        self.normalize = normalize
        self.augmentation = augment.make(augmentation)
        self.labels = labels
        self.base_temperature = base_temperature
        self.fields = ("image", labels) if labels else ("image",)

    def apply(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context, **options: Any
    ) -> ModelOutput:
        """As the base class; at evaluation, of images larger than a cropped view, the centre."""
        images = batch["image"]
        if not ctx.train:
            images = self.augmentation.at_evaluation(images)
        return super().apply(model, {"image": images}, ctx, **options)

    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context
    ) -> tuple[Array, base.Aux]:
        """The loss of `batch["image"]`, uint8 `[B, H, W, 3]`; no further metrics."""
        view_key, model_key = jax.random.split(ctx.key)
        if len(batch["image"]) < 2:
            raise ValueError("contrastive learning compares scenes: batch_size must be 2 or more")
        views = augment.views(self.augmentation, view_key, batch["image"], num_views=2)
        # Views of an image stay neighbours, so a batch sharded over devices stays where it is.
        views = views.reshape(-1, *views.shape[2:])  # [2 B, H, W, 3]
        z = self.apply(model, {"image": views}, ctx.with_key(model_key)).embedding
        z = z.reshape(-1, 2, z.shape[-1])  # [B, 2, D]
        if not self.labels:
            za, zb = z.swapaxes(0, 1)
            return losses.nt_xent(za, zb, self.temperature, self.normalize), base.Aux()
        loss = losses.sup_con(
            z,
            batch[self.labels],
            temperature=self.temperature,
            base_temperature=self.base_temperature or None,
            normalize=self.normalize,
        )
        return loss, base.Aux()
