"""Self-attention over a grid of tokens."""

import jax
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.position import GTA

Array = jax.Array


class Attention(nnx.Module):
    """Multi-head self-attention `[B, h, w, C]` to `[B, h, w, C]`, no residual and no norm.

    Args:
        channels: C.
        heads: number of heads, divides C.
        grid: (h, w), the resolution that the GTA matrices are made for.
        gta: turn queries, keys, values and outputs by position (see `GTA`).
    """

    def __init__(
        self, channels: int, heads: int, *, grid: tuple[int, int], gta: bool, rngs: nnx.Rngs
    ) -> None:
        if channels % heads:
            raise ValueError(f"{channels=} is not divisible by {heads=}.")
        self.heads = heads
        self.qkv = linear(channels, 3 * channels, rngs=rngs)
        self.out = linear(channels, channels, rngs=rngs)
        self.gta = GTA(grid, channels // heads) if gta else None

    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.heads, channels // self.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]  # each [B, h w, heads, d]
        if self.gta is not None:
            grid = (height, width)
            q, k, v = (self.gta.apply(n, t, grid) for n, t in (("q", q), ("k", k), ("v", v)))
        y = jax.nn.dot_product_attention(q, k, v)
        if self.gta is not None:
            y = self.gta.apply("o", y, grid)
        return self.out(y.reshape(x.shape))
