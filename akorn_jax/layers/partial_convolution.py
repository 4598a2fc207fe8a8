"""Partial convolutions (arXiv 1804.07723) of whole images: borders weigh as much as the middle."""

import functools

import jax
import numpy as np
from flax import nnx

from akorn_jax.layers.linear import uniform_fan_in

Array = jax.Array

KERNEL = 3
EPSILON = 1e-8


class PartialConv(nnx.Conv):
    """A 3x3 convolution whose response is scaled by 9 over the number of taps inside the image.

    `[B, H, W, C]` to `[B, H / stride, W / stride, C']`, from PyTorch's initialisation.
    """

    def __init__(
        self, in_features: int, out_features: int, *, stride: int = 1, rngs: nnx.Rngs
    ) -> None:
        init = uniform_fan_in(in_features * KERNEL**2)
        super().__init__(
            in_features,
            out_features,
            (KERNEL, KERNEL),
            strides=stride,
            padding=((1, 1), (1, 1)),
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )

    def __call__(self, x: Array) -> Array:
        ratio = tap_ratio(*x.shape[-3:-1], self.strides)
        return (super().__call__(x) - self.bias[...]) * ratio + self.bias[...]


@functools.cache
def tap_ratio(height: int, width: int, stride: int) -> np.ndarray:
    """9 over the taps of a 3x3 kernel that lie inside the image, `[H / stride, W / stride, 1]`."""

    def taps(size: int) -> np.ndarray:
        first = np.arange(0, size, stride) - 1
        return np.minimum(first + KERNEL, size) - np.maximum(first, 0)

    count = taps(height)[:, None] * taps(width)
    return (KERNEL**2 / (count + EPSILON)).astype(np.float32)[..., None]
