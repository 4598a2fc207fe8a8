"""Self-attention over a grid of tokens."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.position import GTA

Array = jax.Array


@jax.custom_vjp
def attend(q: Array, k: Array, v: Array) -> Array:
    """softmax(q k^T / sqrt(d)) v of `[B, heads, n, d]` each; the softmax in float32.

    The weights are divided by their sum after they have met the values, which have fewer entries.
    The gradient is written out because XLA's CPU backend runs a product that is contracted over the
    rows of its large operand, as two of the gradient's are, at half the speed (see `_over_rows`).
    """
    return _forward(q, k, v)[0]


def _forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, ...]]:
    logits = _product("bhid,bhjd->bhij", q * q.shape[-1] ** -0.5, k)
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    y = _product("bhij,bhjd->bhid", weights.astype(v.dtype), v) / total
    return y.astype(v.dtype), (q, k, v, weights, total, y)


def _backward(kept: tuple[Array, ...], dy: Array) -> tuple[Array, Array, Array]:
    q, k, v, weights, total, y = kept
    p = weights / total
    dp = _product("bhid,bhjd->bhij", dy, v)
    dlogits = p * (dp - jnp.sum(dy * y, axis=-1, keepdims=True))
    dlogits = (dlogits * q.shape[-1] ** -0.5).astype(q.dtype)
    dq = _product("bhij,bhjd->bhid", dlogits, k)
    dk, dv = _over_rows(dlogits, q), _over_rows(p.astype(v.dtype), dy)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


attend.defvjp(_forward, _backward)


def _product(equation: str, a: Array, b: Array) -> Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _over_rows(weights: Array, x: Array) -> Array:
    """weights^T x of `[B, heads, i, j]` and `[B, heads, i, d]`: `[B, heads, j, d]`.

    On CPUs it is (x^T weights)^T, which turns the small operand and the small result instead of the
    large operand. Left to itself the compiler undoes that.
    """
    if jax.default_backend() != "cpu":
        return _product("bhij,bhid->bhjd", weights, x)
    turned = jax.lax.optimization_barrier(x.swapaxes(2, 3))
    y = jax.lax.optimization_barrier(_product("bhdi,bhij->bhdj", turned, weights))
    return y.swapaxes(2, 3)


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
