"""Contrastive learning: two views of an image are to have similar embeddings (arXiv 2002.05709)."""

import jax
from flax import nnx

from akorn_jax import augment, losses

Array = jax.Array


class Task:
    """SimCLR over the global batch.

    Args:
        temperature: of NT-Xent.
        normalize: compare the embeddings' directions.
        augmentation: fields of `augment.Augmentation`.
    """

    fields = ("image",)
    views = 2  # images that the network sees for each scene
    evaluation = "segmentation"

    def __init__(self, *, temperature: float, normalize: bool, augmentation: dict) -> None:
        self.temperature = temperature
        self.normalize = normalize
        self.augmentation = augment.Augmentation(**augmentation)

    def loss(
        self, model: nnx.Module, batch: dict[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """NT-Xent of `batch["image"]`, uint8 `[B, H, W, 3]`; no further metrics."""
        view_key, model_key = jax.random.split(key)
        views = augment.views(self.augmentation, view_key, batch["image"], num_views=2)
        # Views of an image stay neighbours, so a batch sharded over devices stays where it is.
        z = model(views.reshape(-1, *views.shape[2:]), key=model_key).embedding
        za, zb = z.reshape(-1, 2, z.shape[-1]).swapaxes(0, 1)
        return losses.nt_xent(za, zb, self.temperature, self.normalize), {}
