"""Self-attention over a grid of tokens."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.position import GTA

Array = jax.Array


def attend(q: Array, k: Array, v: Array) -> Array:
    """softmax(q k^T / sqrt(d)) v of `[B, heads, n, d]` each; the softmax in float32.

    The weights are divided by their sum after they have met the values, which have fewer entries.
    """
    logits = jnp.einsum("bhid,bhjd->bhij", q, k, preferred_element_type=jnp.float32)
    logits = logits * q.shape[-1] ** -0.5
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - largest)
    y = jnp.einsum(
        "bhij,bhjd->bhid", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return (y / jnp.sum(weights, axis=-1, keepdims=True)).astype(v.dtype)


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
        qkv = jnp.split(qkv.transpose(2, 0, 3, 1, 4), 3)
        q, k, v = (jnp.squeeze(part, axis=0) for part in qkv)  # each [B, heads, h w, d]
        if self.gta is not None:
            grid = (height, width)
            q, k, v = (self.gta.apply(n, t, grid) for n, t in (("q", q), ("k", k), ("v", v)))
        y = attend(q, k, v)
        if self.gta is not None:
            y = self.gta.apply("o", y, grid)
        return self.out(y.swapaxes(1, 2).reshape(x.shape))
