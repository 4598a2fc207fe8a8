"""What the parity tests share: fixture files, empty models, recorded noise, comparisons."""

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.noise import Noise

PyTree = Any

FIXTURES = Path(__file__).parents[1] / "fixtures"


def files(family: str, pattern: str) -> list[Path]:
    """All fixture files of a family, e.g. ("monet", "monet*.npz"); there is at least one."""
    found = sorted((FIXTURES / family).glob(pattern))
    assert found, f"tests/fixtures/{family} has no {pattern}"
    return found


def read(path: Path) -> dict[str, np.ndarray]:
    return dict(np.load(path))


def literal(array: np.ndarray) -> object:
    """A Python literal stored as a string, e.g. `config`."""
    return ast.literal_eval(str(array))


def below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def empty(make: Callable[[], nnx.Module]) -> nnx.Module:
    """A module full of zeros, to be loaded: initial numbers take long to compile."""
    graphdef, state = nnx.split(nnx.eval_shape(make))
    zeros = jax.tree.map(lambda a: jnp.asarray(np.zeros(a.shape, a.dtype)), state)
    return nnx.merge(graphdef, zeros)


def filled(make: Callable[[], nnx.Module], scale: float = 0.2) -> nnx.Module:
    """A module of random numbers, of which those are positive that are no parameters: variances
    are among them."""
    rng = np.random.default_rng(0)
    graphdef, params, rest = nnx.split(nnx.eval_shape(make), nnx.Param, ...)

    def draw(a: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(np.asarray(scale * rng.normal(size=a.shape), a.dtype))

    def positive(a: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(np.asarray(abs(scale * rng.normal(size=a.shape)), a.dtype))

    return nnx.merge(graphdef, jax.tree.map(draw, params), jax.tree.map(positive, rest))


def on_host(function: Callable, **options: Any) -> Callable:
    """The function compiled by `jax.jit`, with NumPy's arrays for results: what is done to JAX's
    arrays one by one would be compiled one by one."""
    compiled = jax.jit(function, **options)
    return lambda *args, **kwargs: jax.device_get(compiled(*args, **kwargs))


def float64(tree: PyTree) -> PyTree:
    """The same numbers, those with fractions in float64; within `jax.enable_x64()`."""

    def widened(array: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
        return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(widened, tree)


def last(array: np.ndarray) -> np.ndarray:
    """Channels last, of `[..., C, h, w]`."""
    return np.moveaxis(array, -3, -1)


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest error as a share of the largest entry; infinite where the shapes differ."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12))


def assert_gradients(
    ours: dict[str, np.ndarray],
    arrays: dict[str, np.ndarray],
    suffix: str = "",
    *,
    rtol: float = 2e-4,
    zero: tuple[str, ...] = (),
) -> None:
    """Compares gradients by official name with `grad/...` and with `gradsub/...`.

    Of large arrays files hold the flattened gradient `[::stride]` alone.

    Args:
        suffix: behind "grad" and "gradsub", e.g. "_second".
        zero: ends of names whose gradient is 0 but for rounding.
    """
    sampled = below(arrays, f"gradsub{suffix}/")
    official = below(arrays, f"grad{suffix}/") | sampled
    assert official, "the file has gradients"
    largest = max(np.abs(gradient).max() for gradient in official.values())
    for name, expected in official.items():
        actual = np.asarray(ours[name])
        if name in sampled:
            actual = actual.ravel()[:: int(arrays[f"stride/{name}"])]
        if name.endswith(zero):
            assert np.abs(actual).max() < 1e-5 * largest, name
        else:
            assert relative(actual, expected) < rtol, (name, relative(actual, expected))


def record(monkeypatch: pytest.MonkeyPatch, owner: type, *methods: str) -> dict[str, object]:
    """What methods return, by name, as they are called from now on: intermediate results."""
    seen = {}

    def recording(name: str) -> Callable:
        method = getattr(owner, name)

        def call(*args, **kwargs):
            seen[name] = method(*args, **kwargs)
            return seen[name]

        return call

    for name in methods:
        monkeypatch.setattr(owner, name, recording(name))
    return seen


def assert_sampled(ours: np.ndarray, arrays: dict[str, np.ndarray], key: str, rtol: float) -> None:
    """Compares with `arrays[key]`, of which files may hold every `arrays["sub"]`-th entry alone."""
    expected, ours = arrays[key], np.asarray(ours)
    if expected.shape != ours.shape:
        ours = ours.ravel()[:: int(arrays["sub"])]
    assert relative(ours, expected) < rtol, key


class Recorded(Noise):
    """Hands out recorded draws, in their order, and checks that the shapes are those asked for.

    Args:
        draws: arrays in our layout (channels last).
    """

    def __init__(self, draws: Iterable[np.ndarray]) -> None:
        self._left = [jnp.asarray(draw) for draw in draws]

    def normal(self, shape: tuple[int, ...]) -> jax.Array:
        return self._take(shape)

    def uniform(self, shape: tuple[int, ...]) -> jax.Array:
        return self._take(shape)

    def exponential(self, shape: tuple[int, ...]) -> jax.Array:
        return self._take(shape)

    def permutation(self, n: int) -> jax.Array:
        return self._take((n,))

    def assert_used(self) -> None:
        assert not self._left, f"{len(self._left)} recorded draws were not asked for"

    def _take(self, shape: tuple[int, ...]) -> jax.Array:
        draw = self._left.pop(0)
        assert draw.shape == tuple(shape), f"asked for {shape}, recorded {draw.shape}"
        return draw
