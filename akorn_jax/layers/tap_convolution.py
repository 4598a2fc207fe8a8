"""A convolution whose gradient a CPU computes fast, inside loops and branches too."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array

# Measured by `benchmarks/convolutions.py` on a CPU with AVX-512.
_WIDE = 160  # k C from which a kernel's gradient is by rows
_OPERAND = 2**18  # numbers of an operand of their products: 1 MB, as much as the cache of a core


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

    On a CPU its gradients are a convolution by the turned kernel and products of whole rows, or of
    taps where channels are few: XLA's own take two to five times as long there, and tens of times
    as long inside loops and branches.

    Args:
        x: the maps.
        kernel: of the same type.
        stride: of rows and columns; h' = (h + 2 padding - k) // stride + 1.
        padding: zeros on each side.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == 0:
        return x @ kernel[0, 0]
    if jax.default_backend() == "cpu":
        return _convolve(x, kernel, stride, padding)
    return by_xla(x, kernel, stride, [(padding, padding)] * 2)


def by_xla(x: Array, kernel: Array, stride: int, padding: list[tuple[int, int]]) -> Array:
    """XLA's own; padding is in front of and behind rows, and columns."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    if stride == 1 and padding == 0:
        # One row more than is wanted. Without padding, XLA gives convolutions to YNNPACK, which
        # takes up to four times as long for images.
        return by_xla(x, kernel, stride, [(0, 1), (0, 0)])[:, :-1]
    return by_xla(x, kernel, stride, [(padding, padding)] * 2)


def _forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple]:
    # By the function with a rule of its own: a gradient inside another one is to use it too.
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, kept: tuple, dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    k, _, C, _ = kernel.shape
    if stride == 1 and k * C >= _WIDE:
        d_kernel = kernel_gradient_by_rows(x, dy, k, padding)
    else:
        d_kernel = kernel_gradient_by_taps(x, dy, kernel, stride, padding)
    border = k - 1 - padding
    if stride == 1 and border >= 0:
        dx = _convolve(dy, kernel[::-1, ::-1].swapaxes(2, 3), 1, border)
    else:
        dx = _maps_gradient_by_taps(x, dy, kernel, stride, padding)
    return dx, d_kernel


_convolve.defvjp(_forward, _backward)


def kernel_gradient_by_rows(x: Array, dy: Array, k: int, padding: int) -> Array:
    """The gradient by the kernel `[k, k, C, C']` of a convolution with stride 1.

    k columns of x side by side, times k rows of dy, are all k^2 taps in one product, of
    `[k C, pixels]` and `[pixels, k C']`: large enough for a core, from k + k copies instead of k^2.
    It is of a few rows at a time, which fit the cache. Images lie below each other, with k - 1 rows
    of zeros in dy between them, so that no tap reaches from one into another.
    """
    C, (w, D) = x.shape[-1], dy.shape[2:]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    x = x.reshape(-1, *x.shape[2:])  # [R, w + k - 1, C] with R = N (h + k - 1)
    dy = jnp.pad(dy, ((0, 0), (0, k - 1), (0, 0), (0, 0))).reshape(-1, w, D)  # [R, w, C']
    R = len(x)
    rows = min(max(_OPERAND // (k * max(C, D) * w), 1), R)
    strips = -(-R // rows)
    below = strips * rows - R
    x = jnp.pad(x, ((0, below), (0, 0), (0, 0)))
    dy = jnp.pad(dy, ((k - 1, below), (0, 0), (0, 0)))

    def add_strip(total: Array, strip: Array) -> tuple[Array, None]:
        of_x = jax.lax.dynamic_slice_in_dim(x, strip * rows, rows)
        of_dy = jax.lax.dynamic_slice_in_dim(dy, strip * rows, rows + k - 1)
        columns = jnp.concatenate([of_x[:, j : j + w] for j in range(k)], axis=-1)
        # Tap i meets row r of x with row r - i of dy.
        shifted = jnp.concatenate([of_dy[k - 1 - i :][:rows] for i in range(k)], axis=-1)
        return total + columns.reshape(rows * w, -1).T @ shifted.reshape(rows * w, -1), None

    total = jnp.zeros((k * C, k * D), x.dtype)
    total, _ = jax.lax.scan(add_strip, total, jnp.arange(strips))
    return total.reshape(k, C, k, D).transpose(2, 0, 1, 3)


def kernel_gradient_by_taps(x: Array, dy: Array, kernel: Array, stride: int, padding: int) -> Array:
    """The gradient by the kernel, a product for each tap, of one image at a time.

    So what a product needs fits the cache.
    """
    taps = functools.partial(_sum_of_taps, stride=stride, padding=padding)

    def add_image(total: Array, image_and_dy: tuple[Array, Array]) -> tuple[Array, None]:
        image, dy = image_and_dy
        (of_image,) = jax.vjp(lambda kernel: taps(image, kernel), kernel)[1](dy)
        return total + of_image, None

    return jax.lax.scan(add_image, jnp.zeros_like(kernel), (x, dy))[0]


def _maps_gradient_by_taps(x: Array, dy: Array, kernel: Array, stride: int, padding: int) -> Array:
    taps = functools.partial(_sum_of_taps, stride=stride, padding=padding)

    def of_image(image_and_dy: tuple[Array, Array]) -> Array:
        image, dy = image_and_dy
        return jax.vjp(lambda image: taps(image, kernel), image)[1](dy)[0]

    return jax.lax.map(of_image, (x, dy))


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
