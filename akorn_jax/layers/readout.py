"""What is read out of oscillators: norms, which tell synchrony (AKOrN, arXiv 2410.13821, eq. 5)."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.precision import KEEP

Array = jax.Array


class Readout(nnx.Module):
    """Oscillators `[..., C]` to the next stimulus `[..., C]`: norms of N-vectors, plus a bias.

    The norm does not change when the N-vector turns: what is read out is the synchrony. It is
    computed in float32.
    """

    def __init__(self, channels: int, oscillator_dim: int, *, rngs: nnx.Rngs) -> None:
        self.oscillator_dim = oscillator_dim
        self.project = linear(channels, channels * oscillator_dim, keep_float32=True, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(channels), **KEEP)

    def __call__(self, x: Array) -> Array:
        y = self.project(x).reshape(*x.shape, self.oscillator_dim)
        squared = jnp.sum(y**2, axis=-1)
        positive = squared > 0  # the norm's gradient at zero is zero, not NaN
        norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
        return norm + self.bias[...]
