"""Convolutional blocks of the models with boxes, which grow by sub-pixels (arXiv 1609.05158)."""

from collections.abc import Sequence

import jax
from flax import nnx

from akorn_jax.layers.elu import elu
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.linear import pointwise, uniform_fan_in

Array = jax.Array


def pixel_shuffle(x: Array, factor: int) -> Array:
    """`[B, h, w, C r^2]` to `[B, r h, r w, C]`: pixel (i, j) of a block is channel c r^2 + r i + j.

    Args:
        x: feature maps.
        factor: r.

    Raises:
        ValueError: the channels are not divisible by r^2.
    """
    r = factor
    B, h, w, channels = x.shape
    if channels % r**2:
        raise ValueError(f"{channels} channels are not divisible by {r**2}, {factor=} squared.")
    x = x.reshape(B, h, w, channels // r**2, r, r)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(B, r * h, r * w, channels // r**2)


class Conv(nnx.Conv):
    """`[B, H, W, C]` to `[B, H', W', C']` from PyTorch's initialisation.

    Args:
        padding: zeros on each side; (k - 1) // 2 if None, so that kernels of 3 pixels keep the size
            and kernels of 4 with stride 2 halve it.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        init = uniform_fan_in(in_features * kernel_size**2)
        super().__init__(
            in_features,
            features,
            (kernel_size, kernel_size),
            strides=(stride, stride),
            padding=(kernel_size - 1) // 2 if padding is None else padding,
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )

    def __call__(self, x: Array) -> Array:
        if self.kernel_size == (1, 1) and self.strides == (1, 1):
            return pointwise(x, self.kernel[0, 0], self.bias[...])
        return super().__call__(x)


class ConvBlock(nnx.Module):
    """Convolution, pixel shuffle, ELU (CELU with alpha = 1), group norm, in this order.

    Maps `[B, h, w, C]` to `[B, r h / stride, r w / stride, features]`.

    Args:
        upscale: r.
        groups: of the norm.
        bare: nothing follows the pixel shuffle, as at a network's end.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        *,
        upscale: int = 1,
        groups: int = 1,
        bare: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = Conv(
            in_features, features * upscale**2, kernel_size, stride, padding, rngs=rngs
        )
        self.norm = None if bare else GroupNorm(features, groups, rngs=rngs)
        self.upscale = upscale

    def __call__(self, x: Array) -> Array:
        x = self.conv(x)
        if self.upscale > 1:
            x = pixel_shuffle(x, self.upscale)
        return x if self.norm is None else self.norm(elu(x))


def decoder(
    in_features: int,
    features: int,
    groups: int,
    stages: Sequence[tuple[int, int, int]],
    rngs: nnx.Rngs,
) -> nnx.Sequential:
    """From one pixel: stages of a sub-pixel and a plain convolution (channels, groups, upscale)."""
    blocks = [ConvBlock(in_features, features, 1, groups=groups, rngs=rngs)]
    for channels, groups, upscale in stages:
        blocks += [
            ConvBlock(features, channels, 1, upscale=upscale, groups=groups, rngs=rngs),
            ConvBlock(channels, channels, 3, groups=groups, rngs=rngs),
        ]
        features = channels
    return nnx.Sequential(*blocks)
