"""The Kuramoto layer: oscillators on spheres, coupled and driven (AKOrN, arXiv 2410.13821, eq. 2).

C channels hold C / N oscillators of dimension N; oscillator i owns the contiguous channels
N i, ..., N i + N - 1. In this file x are the oscillators, c the stimulus, J the connectivity,
omega the natural frequencies, gamma the step size and T the number of steps.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.attention import Attention
from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.convolution import GridConv
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.image_groups import by_groups
from akorn_jax.layers.iterated import MLP

Array = jax.Array


def sum_over_oscillators(v: Array, oscillator_dim: int) -> Array:
    """At each channel of v `[..., C]`, the sum over the channels of its oscillator."""
    channels = v.shape[-1]
    if jax.default_backend() != "cpu":
        sums = jnp.sum(v.reshape(*v.shape[:-1], -1, oscillator_dim), axis=-1)
        return jnp.repeat(sums, oscillator_dim, axis=-1)
    # On CPUs a product with blocks of ones is several times faster than sums of so few numbers.
    together = oscillator_dim * math.gcd(channels // oscillator_dim, 8)
    blocks = np.kron(np.eye(together // oscillator_dim), np.ones((oscillator_dim,) * 2))
    return (v.reshape(-1, together) @ blocks.astype(v.dtype)).reshape(v.shape)


def normalize(v: Array, oscillator_dim: int) -> Array:
    """Puts every oscillator of v `[..., C]` on the unit sphere; a zero vector stays zero."""
    squared = sum_over_oscillators(v * v, oscillator_dim)
    # A norm has no gradient at zero; this has.
    return v * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def project(y: Array, x: Array, oscillator_dim: int) -> Array:
    """The part of y `[..., C]` that is tangent to the spheres at x `[..., C]`."""
    return y - sum_over_oscillators(x * y, oscillator_dim) * x


def kuramoto(
    x: Array,
    c: Array,
    J: Callable[[Array], Array],
    *,
    num_steps: int,
    gamma: Array | float,
    oscillator_dim: int,
    omega: Callable[[Array], Array] | None = None,
    identity_drift: bool = True,
    tangent: bool = True,
    sphere: bool = True,
    trajectory: bool = False,
    remat: bool = False,
    unroll: bool = False,
) -> tuple[Array, tuple[Array, Array] | None]:
    """Runs x <- normalize(x + gamma (omega(x) + project(c + J(x)))) for `num_steps` steps.

    Oscillators move in float32, also where J computes in bfloat16, which would round them off the
    sphere.

    Args:
        x: oscillators `[B, h, w, C]`; normalised before the first step.
        c: stimulus `[B, h, w, C]`, float32.
        J: maps oscillators `[B, h, w, C]` to couplings of the same shape.
        num_steps: T.
        gamma: step size.
        oscillator_dim: N.
        omega: natural rotation, `[B, h, w, C]` to the same shape; None is no rotation.
        identity_drift: without omega, let x itself take its place, as the published results do:
            the update is then normalize((1 + gamma) x + gamma p), a shorter step in the same
            direction. False is the paper's equation.
        tangent: project the force to the tangent space.
        sphere: normalise oscillators after each step; False clamps each of their components to
            [-1, 1] instead, the start's too.
        trajectory: also return all steps.
        remat: recompute each step in the backward pass instead of storing it.
        unroll: lay the loop out flat.

    Returns:
        The last x `[B, h, w, C]`, and with `trajectory` the oscillators before the first step and
        after each, `[T + 1, B, h, w, C]`, and their energies `-sum(x * (c + J(x)))`, `[T + 1, B]`.
    """

    def keep(x: Array) -> Array:
        return normalize(x, oscillator_dim) if sphere else jnp.clip(x, -1, 1)

    def energy(x: Array, y: Array) -> Array:
        return -jnp.sum(x * y, axis=(1, 2, 3))

    def step(x: Array, _: None) -> tuple[Array, tuple[Array, Array] | None]:
        y = J(x) + c
        force = project(y, x, oscillator_dim) if tangent else y
        if omega is not None:
            force = omega(x) + force
        elif identity_drift:
            force = x + force
        x_new = keep(x + gamma * force)
        if not trajectory:
            return x_new, None
        return x_new, (x, energy(x, y))

    if remat:
        step = jax.checkpoint(step)
    x = keep(x.astype(c.dtype))
    x, steps = jax.lax.scan(step, x, None, length=num_steps, unroll=num_steps if unroll else 1)
    if trajectory:
        states, energies = steps
        states = jnp.concatenate([states, x[None]])  # [T + 1, B, h, w, C]
        steps = states, jnp.concatenate([energies, energy(x, J(x) + c)[None]])
    return x, steps


class Omega(nnx.Module):
    """Natural frequencies: rotates the channel pairs (2 i, 2 i + 1) at nonnegative rates.

    The rate is the L2 norm of a learnable 2-vector, one for all pairs or one a pair, and starts at
    `init`.
    """

    def __init__(self, channels: int, *, init: float, shared: bool, learn: bool) -> None:
        shape = (2,) if shared else (channels // 2, 2)
        kind = nnx.Param if learn else Buffer
        self.vectors = kind(jnp.full(shape, init / 2**0.5))

    def __call__(self, x: Array) -> Array:
        vectors = self.vectors[...]
        squared = jnp.sum(vectors**2, axis=-1)
        rate = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        rate = rate.astype(x.dtype)
        rotated = jnp.stack([rate * pairs[..., 1], -rate * pairs[..., 0]], axis=-1)
        return rotated.reshape(x.shape)


class ScaleAndBias(nnx.Module):
    """`[..., C]` to `[..., C]`: a learnable scale and bias a channel."""

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, c: Array) -> Array:
        return c * self.scale[...] + self.bias[...]


class KuramotoLayer(nnx.Module):
    """A connectivity, a norm of the stimulus and natural frequencies around `kuramoto`.

    Args:
        channels: C.
        oscillator_dim: N, divides C.
        grid: (h, w), the resolution that position-dependent parameters are made for.
        connectivity: "attn" (self-attention), "conv" (a dense convolution) or "mlp": no coupling
            of positions, each by itself goes through an MLP of as many weights as the attention.
        heads: of the attention.
        kernel_size: of the convolution, odd.
        gta: learnable relative positions in the attention.
        stimulus_norm: "none", "gn" (group normalisation, one group an oscillator) or "sandb"
            (scale and bias).
        use_omega, global_omega, init_omega, learn_omega: see `Omega`.
        tangent, sphere, identity_drift, remat, unroll: see `kuramoto`.
    """

    def __init__(
        self,
        channels: int,
        *,
        oscillator_dim: int,
        grid: tuple[int, int],
        connectivity: str,
        heads: int,
        kernel_size: int,
        gta: bool,
        stimulus_norm: str,
        use_omega: bool,
        global_omega: bool,
        init_omega: float,
        learn_omega: bool,
        tangent: bool,
        sphere: bool = True,
        identity_drift: bool,
        remat: bool,
        unroll: bool,
        rngs: nnx.Rngs,
    ) -> None:
        if channels % oscillator_dim:
            raise ValueError(f"{channels=} is not divisible by {oscillator_dim=}.")
        if use_omega and oscillator_dim % 2:
            raise ValueError(f"{oscillator_dim=} must be even: omega turns pairs of channels.")
        if connectivity == "attn":
            self.J = Attention(channels, heads, grid=grid, gta=gta, rngs=rngs)
        elif connectivity == "conv":
            self.J = GridConv(channels, channels, kernel_size, rngs=rngs)
        elif connectivity == "mlp":
            self.J = MLP(channels, 2 * channels, rngs=rngs)
        else:
            raise ValueError(f"{connectivity=} is unknown; it is 'attn', 'conv' or 'mlp'.")
        if stimulus_norm == "gn":
            self.norm = GroupNorm(channels, channels // oscillator_dim, rngs=rngs)
        elif stimulus_norm == "sandb":
            self.norm = ScaleAndBias(channels)
        elif stimulus_norm == "none":
            self.norm = None
        else:
            raise ValueError(f"{stimulus_norm=} is unknown; it is 'none', 'gn' or 'sandb'.")
        self.omega = (
            Omega(channels, init=init_omega, shared=global_omega, learn=learn_omega)
            if use_omega
            else None
        )
        self.oscillator_dim = oscillator_dim
        self.tangent = tangent
        self.sphere = sphere
        self.identity_drift = identity_drift
        self.remat = remat
        self.unroll = unroll

    def __call__(
        self, x: Array, c: Array, *, num_steps: int, gamma: Array, trajectory: bool = False
    ) -> tuple[Array, tuple[Array, Array] | None]:
        """x, c `[B, h, w, C]`; returns what `kuramoto` returns."""
        c = c if self.norm is None else self.norm(c)
        run = functools.partial(
            kuramoto,
            J=self.J,
            num_steps=num_steps,
            gamma=gamma,
            oscillator_dim=self.oscillator_dim,
            omega=self.omega,
            identity_drift=self.identity_drift,
            tangent=self.tangent,
            sphere=self.sphere,
            trajectory=trajectory,
            remat=self.remat,
            unroll=self.unroll,
        )
        # A convolution would transform its kernel again for each group.
        if trajectory or isinstance(self.J, GridConv):
            return run(x, c)
        return by_groups(lambda x, c: run(x, c)[0], x, c), None
