"""Group normalisation (arXiv 1803.08494) whose sums a CPU computes fast."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array

EPSILON = 1e-5  # PyTorch's


class GroupNorm(nnx.GroupNorm):
    """Normalises `[B, ..., C]` over all axes but the first, for groups of neighbouring channels.

    It gives what `nnx.GroupNorm` gives. Sums are over pixels first, for each channel, and over a
    group's channels then: XLA's CPU backend is several times slower where it adds along the last
    axis too.

    Args:
        channels: C.
        groups: how many; C is divisible by it.
    """

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(channels, groups, epsilon=EPSILON, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """`[B, ..., C]` to the same shape, computed in float32 at least."""
        dtype = jnp.promote_types(x.dtype, self.scale.dtype)
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        x = x - self._mean(x)
        factor = jax.lax.rsqrt(self._mean(x * x) + EPSILON) * self.scale[...]
        return (x * factor + self.bias[...]).astype(dtype)

    def _mean(self, x: Array) -> Array:
        """The mean of every group, for each of its channels: `[B, 1, ..., C]`."""
        B, *size, C = x.shape
        sums = jnp.sum(x, axis=tuple(range(1, x.ndim - 1))).reshape(B, self.num_groups, -1)
        means = jnp.sum(sums, axis=-1) / (math.prod(size) * C // self.num_groups)
        means = jnp.repeat(means, C // self.num_groups, axis=-1)
        return means.reshape(B, *(1 for _ in size), C)
