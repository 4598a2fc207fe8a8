"""Convolutions that end in one vector of features per cell, SPAIR's backbones."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.subpixel import Conv, ConvBlock

Array = jax.Array

BACKBONES = ("large", "original")
# The original backbone: kernels of 4 pixels, their strides, zeros at the right and the bottom.
ORIGINAL = ((3, 1), (2, 2), (2, 2))


class CellEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to the features `[B, G, G, C]` of their cells.

    Args:
        kind: "large": convolutions of stride 2, each with CELU and group norm; cells of
            2^len(channels) pixels. "original": three of stride 3, 2, 2 and two of one pixel, with
            ReLU; cells of 12 pixels.
        channels: of the convolutions.
        groups: of their norms, "large" only.
        out_features: C, of one more convolution of one pixel.
        out_groups: of its norm, "large" only.
    """

    def __init__(
        self,
        kind: str,
        channels: Sequence[int],
        groups: Sequence[int],
        out_features: int,
        out_groups: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if kind not in BACKBONES:
            raise ValueError(f"backbone={kind!r} is unknown; it is one of {', '.join(BACKBONES)}.")
        self.kind = kind
        widths = [3, *channels, out_features]
        if kind == "large":
            if len(groups) != len(channels):
                raise ValueError(
                    f"backbone_groups={tuple(groups)} must be as many as "
                    f"backbone_channels={tuple(channels)}."
                )
            self.cell_size = 2 ** len(channels)
            norms = [*groups, out_groups]
            last = len(channels)
            self.layers = nnx.List(
                ConvBlock(i, o, 1, groups=norms[n], rngs=rngs)
                if n == last
                else ConvBlock(i, o, 3, 2, groups=norms[n], rngs=rngs)
                for n, (i, o) in enumerate(itertools.pairwise(widths))
            )
        else:
            self.cell_size = 12
            strides = [stride for stride, _ in ORIGINAL]
            self.layers = nnx.List(
                Conv(i, o, 4, strides[n], 0, rngs=rngs)
                if n < len(strides)
                else Conv(i, o, 1, rngs=rngs)
                for n, (i, o) in enumerate(itertools.pairwise(widths))
            )

    def __call__(self, x: Array) -> Array:
        if self.kind == "large":
            for block in self.layers:
                x = block(x)
            return x
        for i, layer in enumerate(self.layers):
            if i < len(ORIGINAL):
                border = (0, ORIGINAL[i][1])
                x = jnp.pad(x, ((0, 0), border, border, (0, 0)))
            x = jax.nn.relu(layer(x))
        return x
