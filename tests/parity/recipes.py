"""Parameters as a function of their names, where a fixture is too small to hold them."""

import zlib

import numpy as np
from flax import nnx

from akorn_jax.convert import to_official
from tests.parity.tensors import below


def recipe(name: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    """The parameter or running statistic of an official name."""
    stream = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    u = 2 * stream.random_sample(shape) - 1
    if name.endswith("running_mean"):
        u = 0.2 * u
    elif name.endswith("running_var"):
        u = 1 + 0.4 * u
    elif len(shape) >= 2 and not name.endswith(("h_0", "c_0")):
        u = u * gain / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("weight"):
        u = 1 + 0.2 * u
    else:
        u = 0.2 * u
    return u.astype(np.float32)


def official_parameters(
    model: nnx.Module,
    arrays: dict[str, np.ndarray],
    *,
    seed: int,
    gain: float,
    constants: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """A fixture's state dict: what it holds, or what the recipe makes of the names.

    Args:
        model: has the names.
        arrays: the fixture's.
        seed, gain: of the recipe.
        constants: what the names of official state begin with that the recipe leaves alone.
    """
    stored = below(arrays, "param/")
    if stored:
        return stored
    state = {
        name: array if name.startswith(constants) else recipe(name, array.shape, seed, gain)
        for name, array in to_official(model).items()
    }
    for name, total in below(arrays, "param_sum/").items():
        if name in state:
            magnitude = np.abs(state[name]).sum(dtype=np.float64)
            actual = state[name].sum(dtype=np.float64)
            np.testing.assert_allclose(actual, total, atol=1e-6 * magnitude, err_msg=name)
    return state
