"""From a grid of features to one vector an image."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear

Array = jax.Array


def max_pool(features: Array) -> Array:
    """The largest value of each channel, `[B, h, w, C]` to `[B, C]`; of equals, the first.

    The gradient goes to that one position. The gradient of `jnp.max` looks for entries that equal
    the maximum; where the compiler computes the features twice and rounds differently it finds none
    and divides by zero.
    """
    values = features.reshape(len(features), -1, features.shape[-1])
    largest = jnp.argmax(values, axis=1, keepdims=True)
    chosen = jnp.arange(values.shape[1])[:, None] == largest
    return jnp.sum(jnp.where(chosen, values, 0), axis=1)


def average_pool(features: Array) -> Array:
    """The mean of each channel, `[B, h, w, C]` to `[B, C]`."""
    return jnp.mean(features, axis=(1, 2))


class ProjectionHead(nnx.Module):
    """Features `[B, h, w, C]`, pooled over the grid, through Linear-ReLU-Linear to `[B, C]`.

    It computes in float32.

    Args:
        channels: C; the hidden layer has 4 C.
        pool: "max" or "avg".
    """

    def __init__(self, channels: int, *, pool: str, rngs: nnx.Rngs) -> None:
        if pool not in ("max", "avg"):
            raise ValueError(f"{pool=} is unknown; it is 'max' or 'avg'.")
        self.pool = max_pool if pool == "max" else average_pool
        self.hidden = linear(channels, 4 * channels, keep_float32=True, rngs=rngs)
        self.out = linear(4 * channels, channels, keep_float32=True, rngs=rngs)

    def __call__(self, features: Array) -> Array:
        return self.out(jax.nn.relu(self.hidden(self.pool(features))))
