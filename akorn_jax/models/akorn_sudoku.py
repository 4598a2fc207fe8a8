"""AKOrN for Sudoku (arXiv 2410.13821, sec. 5.2): a digit for every cell, from synchrony."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.frozen import FROZEN
from akorn_jax.layers.kuramoto import KuramotoLayer
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.oscillators import linear_readout, trajectory_of
from akorn_jax.layers.precision import KEEP
from akorn_jax.outputs import ModelOutput, readout_steps

Array = jax.Array


class NonlinearReadout(nnx.Module):
    """Oscillators `[..., C]` to the next stimulus `[..., C]`: a readout r, then an MLP a cell.

    r <- r + A relu(B relu(r)), then D relu(r), where A, B, D are linear; in float32.
    """

    def __init__(self, channels: int, oscillator_dim: int, *, rngs: nnx.Rngs) -> None:
        self.norms = linear_readout(channels, oscillator_dim, rngs=rngs)
        self.hidden = linear(channels, channels, keep_float32=True, rngs=rngs)
        self.residual = linear(channels, channels, keep_float32=True, rngs=rngs)
        self.out = linear(channels, channels, keep_float32=True, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        r = self.norms(x)
        r = r + self.residual(jax.nn.relu(self.hidden(jax.nn.relu(r))))
        return self.out(jax.nn.relu(r))


class Model(nnx.Module):
    """L Kuramoto layers over the cells of a board; what the last one settles to is the answer.

    The stimulus is an embedding of the digits, blanks included. Oscillators of given cells start
    as their embedding, those of blanks at random. It shares its layers with `models/akorn.py`, and
    neither patches nor head.

    Args:
        channels: C, of stimulus and oscillators.
        num_layers: L.
        num_steps: T, of every layer.
        size: n, side of the board and number of digits.
        oscillator_dim: N.
        heads: of the attention.
        connectivity, kernel_size: see `layers.kuramoto.KuramotoLayer`.
        use_omega, global_omega, init_omega, learn_omega: natural frequencies, see `Omega`.
        gamma: step size at first; it is trained.
        nonlinear: read out by `NonlinearReadout`; else by norms alone.
        identity_drift: without omega, see `layers.kuramoto.kuramoto`.
        remat: compute each step again in the backward pass instead of keeping what it needs.
        unroll: lay the loop over steps out flat.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_layers: int = 1,
        num_steps: int = 16,
        size: int = 9,
        oscillator_dim: int = 4,
        heads: int = 8,
        connectivity: str = "attn",
        kernel_size: int = 3,
        use_omega: bool = True,
        global_omega: bool = True,
        init_omega: float = 0.1,
        learn_omega: bool = False,
        gamma: float = 1.0,
        nonlinear: bool = True,
        identity_drift: bool = True,
        remat: bool = True,
        unroll: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_steps = num_steps
        self.size = size
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (size + 1, channels)), **KEEP)
        self.gamma = nnx.Param(jnp.full((1,), gamma), **KEEP)
        self.layers = nnx.List(
            KuramotoLayer(
                channels,
                oscillator_dim=oscillator_dim,
                grid=(size, size),
                connectivity=connectivity,
                heads=heads,
                kernel_size=kernel_size,
                gta=True,
                stimulus_norm="none",
                use_omega=use_omega,
                global_omega=global_omega,
                init_omega=init_omega,
                learn_omega=learn_omega,
                tangent=True,
                identity_drift=identity_drift,
                remat=remat,
                unroll=unroll,
                rngs=rngs,
            )
            for _ in range(num_layers)
        )
        readout = NonlinearReadout if nonlinear else linear_readout
        self.readouts = nnx.List(
            readout(channels, oscillator_dim, rngs=rngs) for _ in range(num_layers)
        )
        self.out = linear(channels, size, keep_float32=True, rngs=rngs)
        # The released code has these numbers among its weights, and reads them as little as this.
        # They are kept so that official weights come back as they were.
        self.x0 = nnx.Param(jnp.zeros((1, channels, size, size)), **{FROZEN: True})

    def __call__(
        self,
        boards: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_steps: int | None = None,
    ) -> ModelOutput:
        """Completes boards.

        Args:
            boards: integers `[B, n, n]`, 1 to n, 0 where a digit is missing.
            key: draws the oscillators of blanks, also at evaluation.
            train: without meaning here; every model takes it.
            trajectory: keep every step's oscillators and energies, and the logits of some.
            num_steps: T, instead of the model's own.

        Returns:
            `logits` `[B, n, n, n]` of the digits 1 to n, and `trajectory` if asked for.
        """
        del train
        num_steps = self.num_steps if num_steps is None else num_steps
        given = (boards > 0)[..., None]
        c = self.embedding[...][boards]
        x = jnp.where(given, c, Noise.of(key).normal(c.shape))
        states, energies = [], []
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            x, steps = layer(
                x, c, num_steps=num_steps, gamma=self.gamma[...], trajectory=trajectory
            )
            c = readout(x)
            if trajectory:
                states.append(steps[0])  # [T + 1, B, n, n, C]
                energies.append(steps[1])  # [T + 1, B]
        logits = self.out(jax.nn.relu(c))
        if not trajectory:
            return ModelOutput(logits=logits)
        seen = states[-1][jnp.array(readout_steps(num_steps))]  # [S, B, n, n, C]
        found = trajectory_of(states, energies)
        found["logits"] = (self.out(jax.nn.relu(self.readouts[-1](seen))),)
        return ModelOutput(logits=logits, trajectory=found)
