"""The soft position embedding of Slot Attention (arXiv 2006.15055, appendix E.2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.broadcast_add import add_to_each

Array = jax.Array


@functools.cache
def soft_grid(height: int, width: int) -> np.ndarray:
    """`[h, w, 4]`: (y, x, 1 - y, 1 - x), each from 0 at the first pixel to 1 at the last."""
    y, x = np.meshgrid(_ramp(height), _ramp(width), indexing="ij")
    return np.stack([y, x, 1 - y, 1 - x], axis=-1)


def centred_grid(height: int, width: int) -> np.ndarray:
    """`[h, w, 2]`: (y, x), each from -1 at the first pixel to 1 at the last."""
    return 2 * soft_grid(height, width)[..., :2] - 1


def _ramp(n: int) -> np.ndarray:
    """`[n]` from 0 to 1, to the last bit as PyTorch has it: a float32 step, from both ends."""
    step = float(np.float32(1) / np.float32(max(n - 1, 1)))
    i = np.arange(n)
    return np.where(i < max(n // 2, 1), step * i, 1 - step * (n - 1 - i)).astype(np.float32)


class SoftPosition(nnx.Module):
    """Adds a learned linear map of the position to features `[B, h, w, C]`."""

    def __init__(
        self,
        channels: int,
        *,
        kernel_init: nnx.Initializer | None = None,
        bias_init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = nnx.Linear(
            4,
            channels,
            kernel_init=kernel_init or nnx.initializers.glorot_uniform(),
            bias_init=bias_init or nnx.initializers.zeros_init(),
            rngs=rngs,
        )

    def table(self, height: int, width: int, dtype: jnp.dtype = jnp.float32) -> Array:
        """What is added, `[h, w, C]`; computed in `dtype` or, if it is wider, the weights' type."""
        return self.project(jnp.asarray(soft_grid(height, width), dtype))

    def __call__(self, features: Array) -> Array:
        table = self.table(*features.shape[1:3], features.dtype)
        return add_to_each(features.astype(table.dtype), table)
