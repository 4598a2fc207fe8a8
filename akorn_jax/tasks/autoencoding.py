"""Autoencoding: the model draws the image again."""

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


class Task:
    """Mean squared error of `ModelOutput.recon`, plus the model's terms.

    Args:
        flip: mirror each image with probability 1/2, as Krimmel et al. do.
    """

    fields = ("image",)
    views = 1  # images a scene that a step sees
    evaluation = "segmentation"

    def __init__(self, *, flip: bool = False) -> None:
        self.flip = flip

    def loss(
        self, model: nnx.Module, batch: dict[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of `batch["image"]`, uint8 `[B, H, W, 3]`, and each of its terms.

        Errors are taken between images in [-1, 1], as in the published losses.
        """
        flip_key, model_key = jax.random.split(key)
        images = batch["image"].astype(jnp.float32) / 255
        if self.flip:
            flipped = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1, 1))
            images = jnp.where(flipped, images[:, :, ::-1], images)
        output = model(images, key=model_key, train=True)
        terms = {"mse": jnp.mean((2 * (output.recon - images)) ** 2)}
        for name, term in (output.terms or {}).items():
            terms[name] = term.mean()
        return sum(terms.values()), terms
