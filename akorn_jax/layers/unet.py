"""The U-Net (arXiv 1505.04597) of MONet and GENESIS-V2, whose levels meet in an MLP.

Levels are numbered from 0, the resolution of the input; each halves the one before it.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from akorn_jax.layers.convolution import Conv
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.linear import linear

Array = jax.Array

HIDDEN = 128  # width of the MLP
CONVOLUTION = "convolution"  # the name, for `jax.checkpoint`, of what convolutions give


class Block(nnx.Module):
    """A 3 x 3 convolution without bias, group norm, ReLU.

    Args:
        num_groups: of the norm; None normalises each channel alone (instance norm).
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        num_groups: int | None,
        rngs: nnx.Rngs,
    ) -> None:
        num_groups = features if num_groups is None else num_groups
        if features % num_groups:
            raise ValueError(f"{features} channels do not divide into {num_groups} groups.")
        self.conv = Conv(in_features, features, 3, use_bias=False, rngs=rngs)
        self.norm = GroupNorm(features, num_groups, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """`[B, h, w, in_features]` to `[B, h, w, features]`."""
        return jax.nn.relu(self.norm(checkpoint_name(self.conv(x), CONVOLUTION)))


class UNet(nnx.Module):
    """`[B, H, W, in_features]` to `[B, H, W, widths[0]]`.

    Down: a block a level, and every second pixel of its output for the next level. At the lowest
    level an MLP sees the whole map. Up: a block a level on what came from below beside the level's
    own output on the way down, each pixel repeated for the level above.

    Args:
        image_size: (H, W).
        widths: channels of each level.
        num_groups: see `Block`.

    Raises:
        ValueError: the lowest level would have less than 2 x 2 pixels.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        in_features: int,
        widths: Sequence[int],
        *,
        num_groups: int | None,
        rngs: nnx.Rngs,
    ) -> None:
        lowest = [n >> (len(widths) - 1) for n in image_size]
        if min(lowest) < 2:
            raise ValueError(
                f"image_size={tuple(image_size)} is too small for a U-Net with {len(widths)} "
                f"levels, the lowest of which must have 2 x 2 pixels: take "
                f"{2 ** len(widths)} pixels or more, or less levels."
            )

        def block(inputs: int, outputs: int) -> Block:
            return Block(inputs, outputs, num_groups=num_groups, rngs=rngs)

        self.image_size = tuple(image_size)
        self.down = nnx.List(block(a, b) for a, b in itertools.pairwise([in_features, *widths]))
        # From the lowest level up; each gives the width of the level above.
        above = [widths[0], *widths[:-1]]
        self.up = nnx.List(
            block(2 * a, b) for a, b in zip(reversed(widths), reversed(above), strict=True)
        )
        entries = lowest[0] * lowest[1] * widths[-1]
        sizes = itertools.pairwise([entries, HIDDEN, HIDDEN, entries])
        self.mlp = nnx.List(linear(a, b, rngs=rngs) for a, b in sizes)

    def __call__(self, x: Array) -> Array:
        if x.shape[1:3] != self.image_size:
            raise ValueError(
                f"Images of {x.shape[1]} x {x.shape[2]} pixels do not fit a U-Net built for "
                f"{self.image_size[0]} x {self.image_size[1]}: set config.model.image_size to "
                "what the data has."
            )
        skips = []
        for level, block in enumerate(self.down):
            x = block(halve(x) if level else x)
            skips.append(x)
        shape = x.shape
        x = x.reshape(len(x), -1)
        for layer in self.mlp:
            x = jax.nn.relu(layer(x))
        x = x.reshape(shape)
        for i, block in enumerate(self.up):
            skip = skips.pop()
            x = block(jnp.concatenate([double(x, skip.shape) if i else x, skip], axis=-1))
        return x


def halve(x: Array) -> Array:
    """Every second pixel of `[B, H, W, C]`: `[B, H // 2, W // 2, C]`."""
    H, W = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return x[:, :H:2, :W:2]


def double(x: Array, shape: tuple[int, ...]) -> Array:
    """Each pixel of `[B, h, w, C]` four times; zeros below and to the right where H or W is odd.

    Args:
        shape: whose H and W, 2 h or 2 h + 1 and 2 w or 2 w + 1, the result has.
    """
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return jnp.pad(x, ((0, 0), (0, shape[1] - x.shape[1]), (0, shape[2] - x.shape[2]), (0, 0)))
