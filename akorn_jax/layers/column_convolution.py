"""A convolution that a CPU computes fast, inside loops too: products of a few rows at a time."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array

COLUMNS = 2**17  # numbers that a product reads at a time, so that they are still in the cache


class ColumnConv(nnx.Conv):
    """`[N, h, w, C]` to `[N, h', w', C']` by `convolve`, in the type of the weights.

    Args:
        kernel_size: k, of rows and columns.
        stride, padding: see `convolve`.
        kernel_init, bias_init: initialisers.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        kernel_init: nnx.Initializer,
        bias_init: nnx.Initializer = jax.nn.initializers.zeros,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=padding,
            use_bias=use_bias,
            kernel_init=kernel_init,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.stride = stride
        self.border = padding

    def __call__(self, x: Array) -> Array:
        x = x.astype(self.kernel.dtype)
        y = convolve(x, self.kernel[...], stride=self.stride, padding=self.border)
        return y if self.bias is None else y + self.bias[...]


def convolve(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """The convolution of x `[N, h, w, C]` with a kernel `[k, k, C, C']`: `[N, h', w', C']`.

    On a CPU, what the kernel meets at each place is written out as a row of a matrix, k^2 times as
    much as x, for a few rows of an image at a time. XLA's own convolution is slower there, 1.7
    times with 32 channels, and its gradient tens of times inside loops and branches.

    Args:
        x: the maps.
        kernel: of the same type.
        stride: of rows and columns; h' = (h + 2 padding - k) // stride + 1.
        padding: zeros on each side.
    """
    if jax.default_backend() == "cpu":
        return _by_columns(x, kernel, stride, padding)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_columns(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    columns, per_image, _ = _blocks(x, kernel, stride, padding)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    y = jax.lax.map(lambda i: columns(i) @ matrix, jnp.arange(len(x) * per_image))
    rows, width = _size(x, kernel, stride, padding)
    return y.reshape(len(x), -1, width, kernel.shape[-1])[:, :rows]


def _size(x: Array, kernel: Array, stride: int, padding: int) -> tuple[int, int]:
    """h', w'."""
    rows, width = ((n + 2 * padding - len(kernel)) // stride + 1 for n in x.shape[1:3])
    return rows, width


def _blocks(
    x: Array, kernel: Array, stride: int, padding: int
) -> tuple[Callable[[Array], Array], int, int]:
    """What the kernel meets in the i-th block of rows, `[rows w', k^2 C]`.

    Returns:
        that as a function of i, how many blocks an image has, and how many rows a block; the last
        one may go on below the image.
    """
    k, _, channels, _ = kernel.shape
    rows, width = _size(x, kernel, stride, padding)
    block = min(max(COLUMNS // (k * k * channels * width), 1), rows)
    per_image = math.ceil(rows / block)
    height = (block - 1) * stride + k
    below = max((per_image - 1) * block * stride + height - x.shape[1] - padding, 0)
    x = jnp.pad(x, ((0, 0), (padding, below), (padding, padding), (0, 0)))

    def columns(i: Array) -> Array:
        corner = (i // per_image, i % per_image * block * stride, 0, 0)
        part = jax.lax.dynamic_slice(x, corner, (1, height, *x.shape[2:]))[0]
        last_row, last_column = (stride * (n - 1) + 1 for n in (block, width))
        taps = [
            part[a : a + last_row : stride, b : b + last_column : stride]
            for a in range(k)
            for b in range(k)
        ]
        return jnp.concatenate(taps, axis=-1).reshape(block * width, -1)

    return columns, per_image, block


def _forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple]:
    # By the function with a rule of its own: a gradient inside another one is to use it too.
    return _by_columns(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, kept: tuple, dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    columns, per_image, block = _blocks(x, kernel, stride, padding)
    below = per_image * block - dy.shape[1]
    blocks = jnp.pad(dy, ((0, 0), (0, below), (0, 0), (0, 0)))
    blocks = blocks.reshape(len(x) * per_image, -1, dy.shape[3])

    def add(total: Array, i_and_dy: tuple[Array, Array]) -> tuple[Array, None]:
        i, dy = i_and_dy
        return total + columns(i).T @ dy, None

    nothing = jnp.zeros((kernel[..., 0].size, kernel.shape[-1]), kernel.dtype)
    d_kernel, _ = jax.lax.scan(add, nothing, (jnp.arange(len(blocks)), blocks))

    # The gradient of x is a convolution of dy, whose places moved apart, with the turned kernel.
    margin = len(kernel) - 1 - padding
    unmet = ((n + 2 * padding - len(kernel)) % stride for n in x.shape[1:3])  # at the end
    moved = [(margin, margin + rest, stride - 1) for rest in unmet]
    apart = jax.lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *moved, (0, 0, 0)])
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _by_columns(apart, turned, 1, 0), d_kernel.reshape(kernel.shape)


_by_columns.defvjp(_forward, _backward)
