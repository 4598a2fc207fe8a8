"""Batch normalisation with PyTorch's running statistics."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array

EPSILON = 1e-5
MOMENTUM = 0.1  # of the running statistics


class BatchNorm(nnx.Module):
    """Normalises `[..., C]` over all axes but the last.

    Differs from `nnx.BatchNorm` in the running variance, which is the sample's (divided by n - 1),
    as in PyTorch; the batch itself is normalised by the biased one, as everywhere.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: Array, *, train: bool) -> Array:
        """`[..., C]` to the same shape, in float32 at least.

        The batch may be sharded: under jit a mean is a mean over all devices.

        Args:
            train: normalise by the statistics of x, which also move the running ones.
        """
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train:
            mean, variance = self._observe(x)
        else:
            mean, variance = self.mean[...], self.variance[...]
        return (x - mean) * (jax.lax.rsqrt(variance + EPSILON) * self.scale[...]) + self.bias[...]

    def _observe(self, x: Array) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        n = math.prod(x.shape[:-1])
        mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
        unbiased = variance * (n / max(n - 1, 1))
        for running, observed in ((self.mean, mean), (self.variance, unbiased)):
            observed = jax.lax.stop_gradient(observed)
            running[...] = (1 - MOMENTUM) * running[...] + MOMENTUM * observed
        return mean, variance
