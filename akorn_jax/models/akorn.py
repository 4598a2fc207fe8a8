"""AKOrN for object discovery (Artificial Kuramoto Oscillatory Neurons, arXiv 2410.13821)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.head import ProjectionHead
from akorn_jax.layers.kuramoto import KuramotoLayer
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.oscillators import (
    initial_oscillators,
    linear_readout,
    per_layer,
    trajectory_of,
)
from akorn_jax.layers.patch import PatchEmbedding, pair, rescale, token_grid
from akorn_jax.layers.position import sinusoidal_table
from akorn_jax.layers.precision import KEEP
from akorn_jax.outputs import ModelOutput

Array = jax.Array


class Model(nnx.Module):
    """L Kuramoto layers over patches; each reads the last one's oscillators out as its stimulus.

    Args:
        channels: C, of stimulus and oscillators.
        num_layers: L.
        num_steps: T, one number or one a layer. May be changed after training.
        patch_size: pixels of a token's side.
        image_size: pixels of the training images' side, or (height, width).
        oscillator_dim: N.
        heads: of the attention.
        connectivity: "attn", "conv" or "mlp" (see `KuramotoLayer`), or one a layer.
        kernel_size: of the convolutional connectivity.
        stimulus_norm: "none", "gn" or "sandb", applied to c before the loop.
        use_omega, global_omega, init_omega, learn_omega: natural frequencies, see `Omega`.
        gamma: step size; not trained.
        gta: relative positions inside the attention; without them, learnable position tables are
            added to c and x.
        pool: "max" or "avg" before the head.
        project: project the force to the tangent space.
        sphere: keep the oscillators on spheres; False clamps their components instead.
        use_readout: read the oscillators out as `Readout`; else the next stimulus is x itself.
        use_readout_x: a linear map of x between layers.
        autorescale: resize images of another size to `image_size` first.
        identity_drift: see `layers.kuramoto.kuramoto`; the published results have it.
        remat: compute each step again in the backward pass instead of keeping what it needs: a
            fraction of the memory, and on CPUs no slower.
        unroll: lay the loop over steps out flat: T times the program to compile, no loop to run.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_layers: int = 1,
        num_steps: int | Sequence[int] = 8,
        patch_size: int = 4,
        image_size: int | Sequence[int] = 32,
        oscillator_dim: int = 4,
        heads: int = 8,
        connectivity: str | Sequence[str] = "attn",
        kernel_size: int = 1,
        stimulus_norm: str = "none",
        use_omega: bool = False,
        global_omega: bool = False,
        init_omega: float = 1.0,
        learn_omega: bool = True,
        gamma: float = 1.0,
        gta: bool = True,
        pool: str = "max",
        project: bool = True,
        sphere: bool = True,
        use_readout: bool = True,
        use_readout_x: bool = False,
        autorescale: bool = True,
        identity_drift: bool = True,
        remat: bool = True,
        unroll: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.image_size = pair(image_size)
        self.autorescale = autorescale
        grid = token_grid(image_size, patch_size)
        self.num_steps = per_layer("num_steps", num_steps, num_layers)
        self.patches = PatchEmbedding(channels, patch_size, rngs=rngs)
        self.gamma = Buffer(jnp.full((1,), gamma))
        table = None if gta else sinusoidal_table(*grid, channels)
        self.position_c = None if gta else nnx.Param(jnp.array(table), **KEEP)
        self.position_x = None if gta else nnx.Param(jnp.array(table), **KEEP)
        self.layers = nnx.List(
            KuramotoLayer(
                channels,
                oscillator_dim=oscillator_dim,
                grid=grid,
                connectivity=kind,
                heads=heads,
                kernel_size=kernel_size,
                gta=gta,
                stimulus_norm=stimulus_norm,
                use_omega=use_omega,
                global_omega=global_omega,
                init_omega=init_omega,
                learn_omega=learn_omega,
                tangent=project,
                sphere=sphere,
                identity_drift=identity_drift,
                remat=remat,
                unroll=unroll,
                rngs=rngs,
            )
            for kind in per_layer("connectivity", connectivity, num_layers)
        )
        self.readouts = nnx.List(
            linear_readout(channels, oscillator_dim, rngs=rngs) if use_readout else None
            for _ in range(num_layers)
        )
        self.readouts_x = nnx.List(
            linear(channels, channels, keep_float32=True, rngs=rngs) if use_readout_x else None
            for _ in range(num_layers - 1)
        )
        self.head = ProjectionHead(channels, pool=pool, rngs=rngs)

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        x0: Array | None = None,
    ) -> ModelOutput:
        """Segments by synchrony.

        Args:
            images: `[B, H, W, 3]` in [0, 1].
            key: draws the initial oscillators, also at evaluation; a key or a `Noise`.
            train: without meaning here; every model takes it.
            x0: the initial oscillators `[B, h, w, C]` themselves, not normalised; instead of `key`.
            trajectory: keep every step's oscillators and energies.

        Returns:
            `features` (the last readout), `embedding` and, if asked for, `trajectory`.
        """
        del train
        if self.autorescale:
            images = rescale(images, self.image_size)
        c = self.patches(images)
        x = initial_oscillators(c, key, x0)
        if self.position_c is not None:
            if c.shape[1:] != self.position_c.shape:
                raise ValueError(
                    f"The position tables are for tokens {self.position_c.shape[:2]}, an image "
                    f"gave {c.shape[1:3]}; use gta=True or autorescale=True."
                )
            c, x = c + self.position_c[...], x + self.position_x[...]

        gamma = self.gamma[...]
        states, energies = [], []
        for l, layer in enumerate(self.layers):
            x, steps = layer(x, c, num_steps=self.num_steps[l], gamma=gamma, trajectory=trajectory)
            c = x if self.readouts[l] is None else self.readouts[l](x)
            if l < len(self.readouts_x) and self.readouts_x[l] is not None:
                x = self.readouts_x[l](x)
            if trajectory:
                states.append(steps[0])  # [T + 1, B, h, w, C]
                energies.append(steps[1])  # [T + 1, B]
        return ModelOutput(
            features=c,
            embedding=self.head(c),
            trajectory=trajectory_of(states, energies) if trajectory else None,
        )
