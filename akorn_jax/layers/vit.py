"""The Vision Transformer (arXiv 2010.11929) as DINO, DINOv2 and timm have it.

B images become N = h w patch tokens of C features. Before them stand the class token and, in
"Vision Transformers Need Registers" (arXiv 2309.16588), R register tokens.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.attention import attend
from akorn_jax.layers.linear import Linear, linear
from akorn_jax.layers.patch import pair, patchify, token_grid
from akorn_jax.layers.precision import KEEP
from akorn_jax.layers.resize import resize_bicubic

Array = jax.Array

MLPS = ("gelu", "swiglu")

truncated = nnx.initializers.truncated_normal(0.02)
dense = functools.partial(Linear, kernel_init=truncated)
layer_norm = functools.partial(nnx.LayerNorm, epsilon=1e-6, use_fast_variance=False)


class SelfAttention(nnx.Module):
    """Multi-head self-attention over tokens `[B, N, C]`.

    Args:
        width: C.
        heads: divides C.
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        if width % heads:
            raise ValueError(f"{width=} is not divisible by {heads=}.")
        self.heads = heads
        self.qkv = dense(width, 3 * width, rngs=rngs)
        self.out = dense(width, width, rngs=rngs)

    def split(self, x: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values of x, each `[B, heads, N, C / heads]`."""
        batch, count, width = x.shape
        qkv = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads)
        return tuple(jnp.moveaxis(qkv, (2, 3), (0, 2)))

    def __call__(self, x: Array) -> Array:
        y = attend(*self.split(x))
        return self.out(y.swapaxes(1, 2).reshape(x.shape))


class MLP(nnx.Module):
    """`[..., C]` to `[..., C]`: out(gelu(hidden(x))) or, "swiglu", out(silu(a) b) with
    (a, b) = hidden(x) (arXiv 2002.05202)."""

    def __init__(self, kind: str, width: int, hidden_size: int, *, rngs: nnx.Rngs) -> None:
        if kind not in MLPS:
            raise ValueError(f"mlp={kind!r} is unknown; it is one of {', '.join(MLPS)}.")
        self.kind = kind
        if kind == "swiglu":  # as many parameters as two layers, in multiples of 8 (DINOv2)
            hidden_size = (int(hidden_size * 2 / 3) + 7) // 8 * 8
        self.hidden = dense(width, hidden_size * (2 if kind == "swiglu" else 1), rngs=rngs)
        self.out = dense(hidden_size, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.hidden(x)
        if self.kind == "gelu":
            return self.out(jax.nn.gelu(x, approximate=False))
        a, b = jnp.split(x, 2, axis=-1)
        return self.out(jax.nn.silu(a) * b)


class Block(nnx.Module):
    """x + s1 attention(norm(x)), then x + s2 mlp(norm(x)), on tokens `[B, N, C]`.

    The scales s1, s2 `[C]` are DINOv2's (`layer_scale`); elsewhere they are 1.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden_size: int,
        mlp: str,
        layer_scale: bool,
        rngs: nnx.Rngs,
    ) -> None:
        self.attention_norm = layer_norm(width, rngs=rngs)
        self.attention = SelfAttention(width, heads, rngs=rngs)
        self.attention_scale = nnx.Param(jnp.full(width, 1e-5), **KEEP) if layer_scale else None
        self.mlp_norm = layer_norm(width, rngs=rngs)
        self.mlp = MLP(mlp, width, hidden_size, rngs=rngs)
        self.mlp_scale = nnx.Param(jnp.full(width, 1e-5), **KEEP) if layer_scale else None

    def __call__(self, x: Array) -> Array:
        x = x + _scaled(self.attention(self.attention_norm(x)), self.attention_scale)
        return x + _scaled(self.mlp(self.mlp_norm(x)), self.mlp_scale)


def _scaled(y: Array, scale: nnx.Param | None) -> Array:
    return y if scale is None else y * scale[...]


class ViT(nnx.Module):
    """Normalised images `[B, H, W, 3]` to tokens `[B, 1 + R + N, C]`.

    The residual stream is float32 whatever the type of the weights.

    Args:
        image_size: H = W, or (H, W), of the images that the positions are for.
        patch_size: p; N = H W / p^2, patches row by row.
        width: C.
        depth: number of blocks.
        heads: of the attention, divides C.
        mlp_ratio: hidden features of the MLPs, in C.
        mlp: "gelu" or "swiglu" (the giant of DINOv2), see `MLP`.
        num_registers: R.
        class_position: the class token has a row in the table of positions; timm adds that row to
            the token itself in models with registers.
        layer_scale: see `Block`.

    Raises:
        ValueError: at construction or a call, patches do not tile the images.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        mlp: str = "gelu",
        num_registers: int = 0,
        class_position: bool = True,
        layer_scale: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.grid = token_grid(pair(image_size), patch_size)
        self.patch_size = patch_size
        count = self.grid[0] * self.grid[1] + class_position
        self.project = linear(3 * patch_size**2, width, keep_float32=True, rngs=rngs)
        self.position = nnx.Param(truncated(rngs.params(), (count, width)), **KEEP)
        self.class_position = class_position
        self.class_token = nnx.Param(truncated(rngs.params(), (width,)), **KEEP)
        self.registers = (
            nnx.Param(truncated(rngs.params(), (num_registers, width)), **KEEP)
            if num_registers
            else None
        )
        self.blocks = nnx.List(
            Block(
                width,
                heads,
                hidden_size=int(mlp_ratio * width),
                mlp=mlp,
                layer_scale=layer_scale,
                rngs=rngs,
            )
            for _ in range(depth)
        )
        self.norm = layer_norm(width, rngs=rngs)

    def embed(self, images: Array) -> Array:
        """Images `[B, H, W, 3]` to the tokens `[B, 1 + R + N, C]` that the first block sees."""
        x = self.project(patchify(images, self.patch_size))  # [B, h, w, C]
        batch, *grid, width = x.shape
        patches = x.reshape(batch, -1, width)
        first, table = self.positions((grid[0], grid[1]))
        before = (self.class_token[...] + first)[None]  # [1, C]
        if self.registers is not None:
            before = jnp.concatenate([before, self.registers[...]])
        before = jnp.broadcast_to(before, (batch, *before.shape))
        return jnp.concatenate([before, patches + table], axis=1)

    def positions(self, grid: tuple[int, int]) -> tuple[Array, Array]:
        """Positions of the class token `[C]` and of the patches `[h w, C]` of another grid.

        As timm resizes them: bicubic (a = -0.75), without antialiasing.
        """
        table = self.position[...]
        width = table.shape[-1]
        first = jnp.zeros(width)
        if self.class_position:
            first, table = table[0], table[1:]
        table = resize_bicubic(table.reshape(1, *self.grid, width), grid)
        return first, table.reshape(-1, width)

    def __call__(self, images: Array) -> tuple[Array, tuple[Array, ...]]:
        """The tokens after the final norm `[B, 1 + R + N, C]`, and after every block before it."""
        states = [self.embed(images)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return self.norm(states[-1]), tuple(states[1:])

    def patch_map(self, tokens: Array, images: Array) -> Array:
        """The patches among the tokens of `images`, as a map `[B, h, w, C]`."""
        h, w = token_grid(images.shape[1:3], self.patch_size)
        return tokens[:, -h * w :].reshape(len(tokens), h, w, -1)
