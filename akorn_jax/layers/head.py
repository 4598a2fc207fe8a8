"""From a grid of features to one vector an image."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear

Array = jax.Array


class ProjectionHead(nnx.Module):
    """Features `[B, h, w, C]`, pooled over the grid, through Linear-ReLU-Linear to `[B, C]`.

    Args:
        channels: C; the hidden layer has 4 C.
        pool: "max" or "avg".
    """

    def __init__(self, channels: int, *, pool: str, rngs: nnx.Rngs) -> None:
        if pool not in ("max", "avg"):
            raise ValueError(f"{pool=} is unknown; it is 'max' or 'avg'.")
        self.pool = jnp.max if pool == "max" else jnp.mean
        self.hidden = linear(channels, 4 * channels, rngs=rngs)
        self.out = linear(4 * channels, channels, rngs=rngs)

    def __call__(self, features: Array) -> Array:
        return self.out(jax.nn.relu(self.hidden(self.pool(features, axis=(1, 2)))))
