"""A convolution over a grid of tokens, computed in the way that the device is fast at."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.linear import uniform_fan_in
from akorn_jax.layers.tap_convolution import convolve

Array = jax.Array

MAX_FOURIER_TOKENS = 1024  # the transform's matrices grow with the square of the tokens


class GridConv(nnx.Conv):
    """`[B, h, w, C]` to `[B, h, w, C']`, zero padding, from PyTorch's initialisation.

    It is computed in the type of the weights, whatever that of x. On a CPU it is a product in the
    Fourier domain (`fourier_conv`): a fraction of the multiplications, all of them in matrix
    products. XLA's own convolution there is slow where it is differentiated, and tens of times
    slower still inside a loop.

    Args:
        kernel_size: k, odd.
    """

    def __init__(
        self, in_features: int, out_features: int, kernel_size: int, *, rngs: nnx.Rngs
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"{kernel_size=} must be odd: a convolution of a grid has a centre.")
        init = uniform_fan_in(in_features * kernel_size**2)
        super().__init__(
            in_features,
            out_features,
            (kernel_size, kernel_size),
            padding=kernel_size // 2,
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )

    def __call__(self, x: Array) -> Array:
        x = x.astype(self.kernel.dtype)
        on_cpu = jax.default_backend() == "cpu"
        if on_cpu and x.dtype == jnp.float32 and x.shape[1] * x.shape[2] <= MAX_FOURIER_TOKENS:
            return fourier_conv(x, self.kernel[...]) + self.bias[...]
        return super().__call__(x)


def fourier_conv(x: Array, kernel: Array) -> Array:
    """The convolution of x `[B, h, w, C]`, padded by zeros, with a kernel `[k, k, C, C']`, k odd.

    Transforms along the grid turn it into a product of two matrices a real number of the spectrum
    (see `_transforms`). With so few tokens the transforms are products with small matrices too.
    """
    batch, height, width, channels = x.shape
    k, outputs = kernel.shape[0], kernel.shape[-1]
    to_x, to_kernel, back = _transforms(height, width, k)
    tokens = x.reshape(batch, -1, channels).swapaxes(0, 1).reshape(-1, batch * channels)
    x_ = (to_x @ tokens).reshape(-1, batch, channels)
    kernel_ = (to_kernel @ kernel.reshape(k * k, -1)).reshape(-1, channels, outputs)
    y = back @ (x_ @ kernel_).reshape(-1, batch * outputs)
    return y.reshape(-1, batch, outputs).swapaxes(0, 1).reshape(batch, height, width, outputs)


@functools.cache
def _transforms(height: int, width: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real matrices A, B `[m, .]` from tokens and from taps, and D `[., m]` back to tokens, such
    that the convolution of x by w is D (A x * B w).

    They are discrete Fourier transforms whose period is the grid plus half a kernel: what wraps
    around ends outside the grid. Of two conjugate frequencies one is kept, with Gauss's three real
    products for a complex one: of (a + i b)(c + i d) the real part is a c - b d and the imaginary
    part (a + b)(c + d) - a c - b d.
    """
    reach = k // 2
    period = (height + reach, width + reach)

    def spectrum(pictures: np.ndarray) -> np.ndarray:
        return np.fft.fft2(pictures, period).reshape(len(pictures), -1).T

    tokens, taps = height * width, k * k
    of_tokens = spectrum(np.eye(tokens).reshape(-1, height, width))
    # PyTorch's convolutions do not turn the kernel, so its taps are turned here.
    turned = np.zeros((taps, *period))
    rows, columns = np.divmod(np.arange(taps), k)
    turned[np.arange(taps), (reach - rows) % period[0], (reach - columns) % period[1]] = 1
    of_taps = spectrum(turned)
    to_tokens = of_tokens.conj().T / math.prod(period)

    frequencies = np.arange(math.prod(period)).reshape(period)
    conjugates = np.roll(frequencies[::-1, ::-1], (1, 1), axis=(0, 1))
    real, half = frequencies[frequencies == conjugates], frequencies[frequencies < conjugates]

    def three(z: np.ndarray) -> np.ndarray:
        return np.concatenate([z[real].real, z[half].real, z[half].imag, (z.real + z.imag)[half]])

    c, d = 2 * to_tokens[:, half].real, 2 * to_tokens[:, half].imag
    back = np.concatenate([to_tokens[:, real].real, c + d, d - c, -d], axis=1)
    matrices = three(of_tokens), three(of_taps), back
    return tuple(matrix.astype(np.float32) for matrix in matrices)


class Conv(nnx.Conv):
    """`[B, H, W, C]` to `[B, H', W', C']` from PyTorch's initialisation.

    It is computed in the type of the weights, whatever that of x.

    Args:
        padding: zeros on each side; half a kernel if None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        init = uniform_fan_in(in_features * kernel_size**2)
        self.stride = stride
        self.border = kernel_size // 2 if padding is None else padding
        super().__init__(
            in_features,
            out_features,
            (kernel_size, kernel_size),
            strides=(stride, stride),
            padding=self.border,
            use_bias=use_bias,
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )

    def __call__(self, x: Array) -> Array:
        x = x.astype(self.kernel.dtype)
        y = convolve(x, self.kernel[...], stride=self.stride, padding=self.border)
        return y if self.bias is None else y + self.bias[...]


def transposed_conv(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution, by a kernel `[k, k, C, C']`, k odd, of x `[B, h, w, C]` moved apart.

    Rows and columns of x move `stride` apart, with zeros between. The kernel's centre meets input i
    at output stride i, as in PyTorch's transposed convolution with output_padding stride - 1;
    TensorFlow's "SAME" lies one pixel beside.

    On a CPU each of the stride^2 places between inputs is a channel of one convolution of x as it
    is: XLA multiplies the zeros there, and its gradient is ten times slower.

    Returns:
        `[B, stride h, stride w, C']`.
    """
    half = kernel.shape[0] // 2
    if stride == 1:
        return convolve(x, kernel, padding=half)
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1, 1),
            padding=[(half, half + stride - 1)] * 2,
            lhs_dilation=(stride, stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    before, after = half // stride, (half + stride - 1) // stride
    x = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    y = convolve(x, _between(kernel, stride, before, after))
    B, h, w, _ = y.shape
    y = y.reshape(B, h, w, stride, stride, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(B, stride * h, stride * w, -1)


def _between(kernel: Array, stride: int, before: int, after: int) -> Array:
    """The kernel `[n, n, C, stride^2 C']` on inputs that have not moved apart.

    Output stride i + a meets input i + d by the kernel's entry stride d - a + k // 2.
    """
    k, _, C, _ = kernel.shape
    d = np.arange(-before, after + 1)
    entry = stride * d - np.arange(stride)[:, None] + k // 2  # [a, d]
    entry = np.where((entry >= 0) & (entry < k), entry, k)  # k is a row of zeros
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    kernel = kernel[entry][:, :, entry]  # [a, d, a', d', C, C']
    return kernel.transpose(1, 3, 4, 0, 2, 5).reshape(len(d), len(d), C, -1)
