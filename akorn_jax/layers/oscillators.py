"""What networks of Kuramoto layers share: how oscillators start, are read out and are shown."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.precision import KEEP

Array = jax.Array


class Readout(nnx.Module):
    """Oscillators `[..., C]` to the next stimulus `[..., C']`: norms of N-vectors, plus a bias.

    The norm does not change when the N-vector turns: what is read out is the synchrony.

    Args:
        project: a linear map or convolution, `[..., C]` to `[..., C' N]`, with a bias.
        vector_dim: N, of the vectors whose norms are taken.
    """

    def __init__(self, project: nnx.Module, vector_dim: int) -> None:
        self.vector_dim = vector_dim
        self.project = project
        self.bias = nnx.Param(jnp.zeros(project.bias.shape[0] // vector_dim), **KEEP)

    def __call__(self, x: Array) -> Array:
        y = self.project(x)
        y = y.reshape(*y.shape[:-1], -1, self.vector_dim)
        squared = jnp.sum(y**2, axis=-1)
        positive = squared > 0  # the norm's gradient at zero is zero, not NaN
        norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
        return norm + self.bias[...]


def linear_readout(channels: int, oscillator_dim: int, *, rngs: nnx.Rngs) -> Readout:
    """A readout of C channels to C, by a linear map in float32."""
    project = linear(channels, channels * oscillator_dim, keep_float32=True, rngs=rngs)
    return Readout(project, oscillator_dim)


def initial_oscillators(c: Array, key: Array | Noise | None, x0: Array | None) -> Array:
    """Standard normals of the stimulus' shape and type, or the given `x0`.

    Raises:
        ValueError: there is neither `key` nor `x0`.
    """
    if x0 is not None:
        return x0.astype(c.dtype)
    if key is None:
        raise ValueError(
            "AKOrN starts from random oscillators: pass key=jax.random.key(...) or x0."
        )
    return Noise.of(key).normal(c.shape).astype(c.dtype)


def trajectory_of(states: Sequence[Array], energies: Sequence[Array]) -> dict[str, tuple]:
    """Oscillators before the first step and after each, as `ModelOutput.trajectory` has them.

    Args:
        states: per layer `[T + 1, B, h, w, C]`.
        energies: per layer `[T + 1, B]`.
    """
    return {
        "initial": tuple(x[0] for x in states),
        "oscillators": tuple(x[1:] for x in states),
        # Row 0 is the reference's placeholder, the energy after the last step stands apart.
        "energies": tuple(jnp.pad(e[:-1], ((1, 0), (0, 0))) for e in energies),
        "final_energy": tuple(e[-1] for e in energies),
    }


def per_layer(name: str, value: Any, num_layers: int) -> tuple:
    """One value for each layer, of one for all or a sequence.

    Raises:
        ValueError: the sequence has another length.
    """
    values = (value,) * num_layers if isinstance(value, int | str) else tuple(value)
    if len(values) != num_layers:
        raise ValueError(f"{name}={value!r} has {len(values)} entries for num_layers={num_layers}.")
    return values
