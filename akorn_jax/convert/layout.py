"""How an official PyTorch array lies in our arrays: invertible permutations, never arithmetic."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.layers.buffer import Buffer


@dataclasses.dataclass(frozen=True)
class Layout:
    """A permutation of an array's entries.

    Attributes:
        load: official array to ours.
        save: ours to the official array; the exact inverse of `load`.
    """

    load: Callable[[np.ndarray], np.ndarray]
    save: Callable[[np.ndarray], np.ndarray]

    def then(self, axis: int, order: np.ndarray) -> "Layout":
        """Afterwards takes the entries `order` along `axis` of our array."""
        inverse = np.argsort(order)
        return Layout(
            load=lambda a: np.take(self.load(a), order, axis),
            save=lambda a: self.save(np.take(a, inverse, axis)),
        )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One official name and the variable that holds it."""

    name: str
    variable: nnx.Variable
    layout: Layout


@dataclasses.dataclass(frozen=True)
class Part:
    """Some entries of a variable, read and written as if they were a variable.

    Attributes:
        whole: the variable.
        index: what NumPy takes to select them.
    """

    whole: nnx.Variable
    index: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_to(np.float32(0), self.whole.shape)[self.index].shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.whole.dtype

    # By NumPy: JAX would compile a program for every index and shape.
    def __getitem__(self, where: Any) -> np.ndarray:
        return np.asarray(self.whole[...])[self.index][where]

    def __setitem__(self, where: Any, value: jnp.ndarray) -> None:
        whole = np.array(self.whole[...])
        part = whole[self.index]
        part[where] = value
        whole[self.index] = part
        self.whole[...] = jnp.asarray(whole)


def below(prefix: str, entries: Iterable[Entry]) -> list[Entry]:
    """The entries of a module that another holds: a prefix before their names."""
    return [dataclasses.replace(entry, name=f"{prefix}{entry.name}") for entry in entries]


def affine(
    name: str, module: nnx.Module, kernel: "Layout", bias: "Layout | None" = None
) -> list[Entry]:
    """Weight and bias of a linear map or convolution; the bias lies as it is unless told so."""
    return [
        Entry(f"{name}.weight", module.kernel, kernel),
        Entry(f"{name}.bias", module.bias, bias or identity()),
    ]


def norm(name: str, module: nnx.Module) -> list[Entry]:
    """Weight and bias of a norm with one number a channel."""
    return [
        Entry(f"{name}.weight", module.scale, identity()),
        Entry(f"{name}.bias", module.bias, identity()),
    ]


def constant(name: str, value: np.ndarray, *, fixed: bool = True) -> Entry:
    """An array that is official state and no state of ours.

    Args:
        value: what is saved, in its own type.
        fixed: what is loaded must be this value; otherwise it is not looked at.
    """

    def load(array: np.ndarray) -> np.ndarray:
        if fixed and not np.allclose(array, value, atol=1e-6):
            raise UserError(f"{name} differs from the constant that this model is built on.")
        return array

    return Entry(name, Buffer(jnp.asarray(value)), Layout(load, lambda _: value))


def map_order(channels: int, height: int, width: int) -> np.ndarray:
    """Where the entries of our flattened map `[h, w, C]` are in the official `[C, h, w]`."""
    official = np.arange(channels * height * width).reshape(channels, height, width)
    return official.transpose(1, 2, 0).reshape(-1)


def identity() -> Layout:
    """The same array."""
    return Layout(lambda a: a, lambda a: a)


def linear() -> Layout:
    """A linear map: `[out, in]` to `[in, out]`."""
    return Layout(np.transpose, np.transpose)


def pointwise() -> Layout:
    """A 1x1 convolution as a linear map: `[out, in, 1, 1]` to `[in, out]`."""
    return Layout(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])


def convolution() -> Layout:
    """A convolution: `[out, in, kh, kw]` to `[kh, kw, in, out]`."""
    return Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))


def transposed() -> Layout:
    """A transposed convolution `[in, out, kh, kw]` as a convolution `[kh, kw, in, out]`."""
    return Layout(
        lambda a: a.transpose(2, 3, 0, 1)[::-1, ::-1],
        lambda a: a[::-1, ::-1].transpose(2, 3, 0, 1),
    )


def patches(patch_size: int) -> Layout:
    """A strided convolution as a linear map over patches: `[out, in, p, p]` to `[p p in, out]`."""
    p = patch_size
    return Layout(
        lambda a: a.transpose(2, 3, 1, 0).reshape(-1, a.shape[0]),
        lambda a: a.reshape(p, p, -1, a.shape[1]).transpose(3, 2, 0, 1),
    )


def table() -> Layout:
    """A map over positions: `[C, h, w]` to `[h, w, C]`."""
    return Layout(lambda a: a.transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1))


def channels(rank: int) -> Layout:
    """One number a channel: `[1, C, 1, ...]` of that rank to `[C]`."""
    shape = (1, -1) + (1,) * (rank - 2)
    return Layout(lambda a: a.reshape(-1), lambda a: a.reshape(shape))


def reshaped(ours: tuple[int, ...], official: tuple[int, ...]) -> Layout:
    """The same numbers in another shape."""
    return Layout(lambda a: a.reshape(ours), lambda a: a.reshape(official))


def load(entries: Iterable[Entry], arrays: Mapping[str, np.ndarray]) -> None:
    """Fills the entries' variables from the official arrays, in place; all of them or none.

    Raises:
        UserError: naming every missing, unknown and misshapen array, and those that differ where
            one variable has several names.
    """
    entries = list(entries)
    known = {entry.name for entry in entries}
    problems = [f"missing {name}" for name in sorted(known - set(arrays))]
    problems += [f"unknown {name}" for name in sorted(set(arrays) - known)]
    filled, first = [], {}
    for entry in entries:
        if entry.name not in arrays:
            continue
        array = np.asarray(arrays[entry.name])
        expected = official_shape(entry)
        if array.shape != expected:
            problems.append(f"misshapen {entry.name} {array.shape}, expected {expected}")
            continue
        array = entry.layout.load(array)
        filled.append((entry.variable, array))
        name, other = first.setdefault(id(entry.variable), (entry.name, array))
        if name != entry.name and not np.array_equal(other, array):
            problems.append(f"{entry.name} differs from {name}, which is one array in the model")
    if problems:
        raise UserError(f"The weights do not fit the model: {'; '.join(problems)}.")
    for variable, array in filled:
        variable[...] = jnp.asarray(array, variable.dtype)


def save(entries: Iterable[Entry]) -> dict[str, np.ndarray]:
    """The entries' variables as official arrays; the inverse of `load`."""
    return {
        e.name: np.asarray(e.layout.save(np.asarray(e.variable[...])), order="C") for e in entries
    }


def official_shape(entry: Entry) -> tuple[int, ...]:
    """The shape that the official array has, from our variable's."""
    ours = np.broadcast_to(np.float32(0), entry.variable.shape)
    return entry.layout.save(ours).shape
