"""Entries of the layers that several official state dicts have in common."""

from collections.abc import Iterable, Iterator

import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.convert.layout import Entry, Layout, convolution, identity, linear
from akorn_jax.errors import UserError
from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.subpixel import ConvBlock

Entries = Iterator[Entry]


def affine(name: str, module: nnx.Module, layout: Layout) -> Entries:
    """A kernel and a bias."""
    yield Entry(f"{name}.weight", module.kernel, layout)
    yield Entry(f"{name}.bias", module.bias, identity())


def norm(name: str, module: nnx.Module) -> Entries:
    """A scale and a bias."""
    yield Entry(f"{name}.weight", module.scale, identity())
    yield Entry(f"{name}.bias", module.bias, identity())


def batch_norm(name: str, module: BatchNorm) -> Entries:
    """A batch norm with its running statistics; `num_batches_tracked` is left out."""
    yield from norm(name, module)
    yield Entry(f"{name}.running_mean", module.mean, identity())
    yield Entry(f"{name}.running_var", module.variance, identity())


def lstm(name: str, module: LSTM) -> Entries:
    """An LSTM cell."""
    yield Entry(f"{name}.weight_ih", module.input_kernel, linear())
    yield Entry(f"{name}.weight_hh", module.state_kernel, linear())
    yield Entry(f"{name}.bias_ih", Row(module.bias, 0), identity())
    yield Entry(f"{name}.bias_hh", Row(module.bias, 1), identity())


def blocks(name: str, modules: Iterable[ConvBlock]) -> Entries:
    """Convolution, pixel shuffle where there is one, activation, norm, numbered in this order."""
    index = 0
    for module in modules:
        yield from affine(f"{name}.{index}", module.conv, convolution())
        index += 3 if module.upscale > 1 else 2
        if module.norm is not None:
            yield from norm(f"{name}.{index}", module.norm)
        index += 1


def map_order(height: int, width: int, channels: int) -> np.ndarray:
    """Where the entries of our flattened map `[h, w, C]` are in the official `[C, h, w]`."""
    official = np.arange(height * width * channels).reshape(channels, height, width)
    return official.transpose(1, 2, 0).ravel()


def constant(name: str, value: np.ndarray, *, fixed: bool = True) -> Entry:
    """An array that is official state and no state of ours.

    Args:
        name: the official one.
        value: what is written.
        fixed: it must also be what is read; otherwise, e.g. for a scheduled number, anything is.
    """
    value = np.asarray(value, np.float32)

    def load(array: np.ndarray) -> np.ndarray:
        if fixed and not np.allclose(array, value, atol=1e-6):
            raise UserError(f"{name} differs from the constant that this model is built on.")
        return array

    return Entry(name, Buffer(jnp.asarray(value)), Layout(load, lambda array: array))


class Row:
    """One row of a variable, read and written as if it were a variable."""

    def __init__(self, whole: nnx.Variable, index: int) -> None:
        self.whole = whole
        self.index = index

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape[1:]

    @property
    def dtype(self) -> jnp.dtype:
        return self.whole.dtype

    def __getitem__(self, where) -> jnp.ndarray:
        return self.whole[self.index][where]

    def __setitem__(self, where, value: jnp.ndarray) -> None:
        self.whole[self.index] = self[...].at[where].set(value)
