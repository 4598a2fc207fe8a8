"""A model and a task of a few numbers, for tests of what is around them."""

import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.noise import Noise
from akorn_jax.outputs import ModelOutput


class Model(nnx.Module):
    """Two masks from the pixels' brightness, a reconstruction by a learned scale, two terms."""

    def __init__(self, *, scale: float = 0.5, width: int = 3, rngs: nnx.Rngs) -> None:
        self.encoder = nnx.Linear(3, width, rngs=rngs)
        self.decoder = nnx.Linear(width, 3, rngs=rngs)
        self.scale = nnx.Param(jnp.asarray(scale))

    def __call__(self, images, *, key=None, train=False, trajectory=False, temperature=1.0):
        del train, trajectory
        z = self.encoder(images)
        z = z + 0.01 * Noise.of(key).normal(z.shape)
        recon = self.scale[...] * self.decoder(z)
        bright = jnp.clip(images.mean(-1), 0, 1) ** temperature
        return ModelOutput(
            terms={
                "nll": jnp.sum((recon - images) ** 2, axis=(1, 2, 3)),
                "kl": jnp.sum(z**2, axis=(1, 2, 3)),
            },
            recon=recon,
            masks=jnp.stack([bright, 1 - bright], axis=1),
        )

    def sample(self, num_images, *, key):
        return Noise.of(key).uniform((num_images, 8, 8, 3))
