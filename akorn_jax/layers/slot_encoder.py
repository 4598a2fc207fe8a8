"""The convolutional encoder in front of Slot Attention."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.image_size import check_image_size
from akorn_jax.layers.linear import pointwise
from akorn_jax.layers.soft_position import SoftPosition
from akorn_jax.layers.tap_convolution import convolve

Array = jax.Array

ACTIVATIONS = {"relu": jax.nn.relu, "leaky_relu": jax.nn.leaky_relu}


def activation_function(name: str):
    """The function of that name.

    Raises:
        ValueError: the name is not a key of `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is unknown; it is one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


class Conv(nnx.Conv):
    """`[B, H, W, C]` to `[B, H', W', C']`, half a kernel of zeros around it."""

    def __init__(
        self, in_features: int, features: int, kernel_size: int, stride: int, *, rngs: nnx.Rngs
    ) -> None:
        super().__init__(
            in_features,
            features,
            (kernel_size, kernel_size),
            strides=(stride, stride),
            padding=kernel_size // 2,
            kernel_init=nnx.initializers.glorot_uniform(),
            rngs=rngs,
        )

    def __call__(self, x: Array) -> Array:
        if self.kernel_size == (1, 1) and self.strides == (1, 1):
            return pointwise(x, self.kernel[0, 0], self.bias[...])
        dtype = jnp.promote_types(x.dtype, self.kernel.dtype)
        x, kernel = x.astype(dtype), self.kernel[...].astype(dtype)
        half = self.kernel_size[0] // 2
        return convolve(x, kernel, stride=self.strides[0], padding=half) + self.bias[...]


class MapNorm(nnx.Module):
    """Layer normalisation over the whole map `[B, h, w, C]`, with a scale and bias an entry."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.scale = nnx.Param(jnp.ones(shape))
        self.bias = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: Array) -> Array:
        x_ = x.astype(jnp.float32)
        mean = jnp.mean(x_, axis=(1, 2, 3), keepdims=True)
        variance = jnp.var(x_, axis=(1, 2, 3), keepdims=True)
        x_ = (x_ - mean) * jax.lax.rsqrt(variance + 1e-5)
        return (x_ * self.scale[...] + self.bias[...]).astype(x.dtype)


class SlotEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to features `[B, h, w, C]`: convolutions, position, norm, MLP.

    Args:
        image_size: H = W.
        channels: C.
        strides: one convolution each; h = H / product of the strides, rounded up.
        kernel_size: odd.
        activation: a key of `ACTIVATIONS`.
        norm: "channel" (the paper's), "map" (over the whole map, as ClevrTex's authors have it) or
            "none".

    Raises:
        UserError: at a call, images are of another size.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        *,
        strides: Sequence[int] = (1, 1, 1, 1),
        kernel_size: int = 5,
        activation: str = "relu",
        norm: str = "channel",
        rngs: nnx.Rngs,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"{kernel_size=} must be odd: features would shift by half a pixel.")
        glorot = nnx.initializers.glorot_uniform()
        dense = functools.partial(nnx.Linear, channels, channels, kernel_init=glorot, rngs=rngs)
        self.image_size = image_size
        self.grid_size = functools.reduce(lambda n, s: -(-n // s), strides, image_size)
        self.activation = activation_function(activation)
        self.convolutions = nnx.List(
            Conv(channels if i else 3, channels, kernel_size, stride, rngs=rngs)
            for i, stride in enumerate(strides)
        )
        self.position = SoftPosition(channels, rngs=rngs)
        if norm == "channel":
            self.norm = nnx.LayerNorm(channels, epsilon=1e-3, use_fast_variance=False, rngs=rngs)
        elif norm == "map":
            self.norm = MapNorm((self.grid_size, self.grid_size, channels))
        elif norm == "none":
            self.norm = None
        else:
            raise ValueError(f"encoder norm {norm!r} is unknown; it is 'channel', 'map' or 'none'.")
        self.hidden = dense()
        self.out = dense()

    def __call__(self, images: Array) -> Array:
        check_image_size(images, self.image_size)
        x = images
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        x = self.position(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.out(self.activation(self.hidden(x)))
