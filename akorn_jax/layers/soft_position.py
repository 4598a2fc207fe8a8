"""The soft position embedding of Slot Attention (arXiv 2006.15055, appendix E.2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Array = jax.Array


@functools.cache
def soft_grid(height: int, width: int) -> np.ndarray:
    """`[h, w, 4]`: (y, x, 1 - y, 1 - x), each from 0 at the first pixel to 1 at the last."""
    y, x = np.meshgrid(_ramp(height), _ramp(width), indexing="ij")
    return np.stack([y, x, 1 - y, 1 - x], axis=-1)


def _ramp(n: int) -> np.ndarray:
    """`[n]` from 0 to 1, to the last bit as PyTorch has it: a float32 step, from both ends."""
    step = float(np.float32(1) / np.float32(max(n - 1, 1)))
    i = np.arange(n)
    return np.where(i < max(n // 2, 1), step * i, 1 - step * (n - 1 - i)).astype(np.float32)


class SoftPosition(nnx.Module):
    """Adds a learned linear map of the position to features `[B, h, w, C]`."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        glorot = nnx.initializers.glorot_uniform()
        self.project = nnx.Linear(4, channels, kernel_init=glorot, rngs=rngs)

    def __call__(self, features: Array) -> Array:
        grid = jnp.asarray(soft_grid(*features.shape[1:3]), features.dtype)
        return features + self.project(grid)[None]
