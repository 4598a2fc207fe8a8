"""A convolution over a grid of tokens, computed in the way that the device is fast at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.linear import uniform_fan_in

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

    Transforms along the grid turn it into one complex product a frequency. With so few tokens the
    transforms are products with small matrices too, of real and imaginary parts (r, s below).
    """
    batch, height, width, channels = x.shape
    k, outputs = kernel.shape[0], kernel.shape[-1]
    to_x, to_kernel, back = _transforms(height, width, k)
    frequencies = len(to_x) // 2
    tokens = x.reshape(batch, -1, channels).swapaxes(0, 1).reshape(-1, batch * channels)
    x_ = (to_x @ tokens).reshape(frequencies, 2 * batch, channels)  # [f, (r b), C]
    kernel_ = (to_kernel @ kernel.reshape(k * k, -1)).reshape(frequencies, 2, channels, outputs)
    kernel_ = kernel_.swapaxes(1, 2).reshape(frequencies, channels, 2 * outputs)  # [f, C, (s C')]
    y = (x_ @ kernel_).reshape(frequencies, 2, batch, 2, outputs)  # [f, r, b, s, C']
    real, imaginary = y[:, 0, :, 0] - y[:, 1, :, 1], y[:, 0, :, 1] + y[:, 1, :, 0]
    y = jnp.stack([real, imaginary], axis=1).reshape(2 * frequencies, batch * outputs)
    return (back @ y).reshape(-1, batch, outputs).swapaxes(0, 1).reshape(*x.shape[:-1], outputs)


@functools.cache
def _transforms(height: int, width: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices from tokens and from kernels to frequencies `[(f r), .]`, and back to tokens.

    The period is the grid plus half a kernel: what wraps around ends outside the grid.
    """
    reach = k // 2
    size = (height + reach, width + reach)

    def to_frequencies(pictures: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft2(pictures, size).reshape(len(pictures), -1).T
        return np.stack([spectrum.real, spectrum.imag], 1).reshape(-1, len(pictures))

    tokens, taps = height * width, k * k
    to_x = to_frequencies(np.eye(tokens).reshape(-1, height, width))
    # PyTorch's convolutions do not turn the kernel, so its taps are turned here.
    turned = np.zeros((taps, *size))
    rows, columns = np.divmod(np.arange(taps), k)
    turned[np.arange(taps), (reach - rows) % size[0], (reach - columns) % size[1]] = 1
    to_kernel = to_frequencies(turned)
    half = np.eye(size[0] * (size[1] // 2 + 1)).reshape(-1, size[0], size[1] // 2 + 1)
    back = [np.fft.irfft2(unit * half, size)[:, :height, :width] for unit in (1, 1j)]
    back = np.stack([b.reshape(len(half), -1) for b in back], 1).reshape(-1, tokens).T
    return tuple(matrix.astype(np.float32) for matrix in (to_x, to_kernel, back))
