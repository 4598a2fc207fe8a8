"""A convolution whose gradient a CPU computes fast, inside loops too: one product per tap."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


class TapConv(nnx.Conv):
    """`[N, h, w, C]` to `[N, h', w', C']` by `convolve`, plus a bias; in the type of the weights.

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
        bias_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=padding,
            kernel_init=kernel_init,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.stride = stride
        self.border = padding

    def __call__(self, x: Array) -> Array:
        x = x.astype(self.kernel.dtype)
        y = convolve(x, self.kernel[...], stride=self.stride, padding=self.border)
        return y + self.bias[...]


def convolve(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """The convolution of x `[N, h, w, C]` with a kernel `[k, k, C, C']`: `[N, h', w', C']`.

    On a CPU its gradients are a convolution by the turned kernel and a product for each tap: XLA's
    own take twice as long there, and tens of times as long inside loops and branches.

    Args:
        x: the maps.
        kernel: of the same type.
        stride: of rows and columns; h' = (h + 2 padding - k) // stride + 1.
        padding: zeros on each side.
    """
    if jax.default_backend() == "cpu":
        return _convolve(x, kernel, stride, padding)
    return _by_xla(x, kernel, stride, padding)


def _by_xla(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


_convolve = jax.custom_vjp(_by_xla, nondiff_argnums=(2, 3))


def _forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple]:
    # By the function with a rule of its own: a gradient inside another one is to use it too.
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, kept: tuple, dy: Array) -> tuple[Array, Array]:
    """One image at a time, so that what a product needs fits the cache."""
    x, kernel = kept
    taps = functools.partial(_sum_of_taps, stride=stride, padding=padding)

    def add_kernels(total: Array, image_and_dy: tuple[Array, Array]) -> tuple[Array, None]:
        image, dy = image_and_dy
        (of_image,) = jax.vjp(lambda kernel: taps(image, kernel), kernel)[1](dy)
        return total + of_image, None

    def images(image_and_dy: tuple[Array, Array]) -> Array:
        image, dy = image_and_dy
        return jax.vjp(lambda image: taps(image, kernel), image)[1](dy)[0]

    d_kernel, _ = jax.lax.scan(add_kernels, jnp.zeros_like(kernel), (x, dy))
    border = kernel.shape[0] - 1 - padding
    if stride == 1 and border >= 0:
        dx = _convolve(dy, kernel[::-1, ::-1].swapaxes(2, 3), 1, border)
    else:
        dx = jax.lax.map(images, (x, dy))
    return dx, d_kernel


_convolve.defvjp(_forward, _backward)


def _sum_of_taps(image: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Image `[h, w, C]` to `[h', w', C']`."""
    image = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    rows, columns = ((n - kernel.shape[0]) // stride + 1 for n in image.shape[:2])
    last_row, last_column = (stride * (n - 1) + 1 for n in (rows, columns))
    y = jnp.zeros((rows * columns, kernel.shape[-1]), image.dtype)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            tap = image[i : i + last_row : stride, j : j + last_column : stride]
            y = y + tap.reshape(-1, image.shape[-1]) @ kernel[i, j]
    return y.reshape(rows, columns, -1)
