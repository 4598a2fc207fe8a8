"""AKOrN for recognition (Artificial Kuramoto Oscillatory Neurons, arXiv 2410.13821)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.convolution import Conv
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.head import average_pool
from akorn_jax.layers.kuramoto import KuramotoLayer
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.oscillators import Readout, initial_oscillators, per_layer, trajectory_of
from akorn_jax.outputs import ModelOutput

Array = jax.Array

GROUPS = 8  # of the readout's group norm
HALVED = 2  # layers after the first that halve the resolution; any further ones keep it


class NormedConv(nnx.Module):
    """`[B, h, w, C]` to `[B, h, w, C]`: a norm, ReLU, and a convolution.

    Args:
        norm: "bn" (batch norm), "gn" (group norm, 8 groups) or "none".
    """

    def __init__(self, channels: int, kernel_size: int, norm: str, *, rngs: nnx.Rngs) -> None:
        if norm == "bn":
            self.norm = BatchNorm(channels)
        elif norm == "gn":
            self.norm = GroupNorm(channels, GROUPS, rngs=rngs)
        elif norm == "none":
            self.norm = None
        else:
            raise ValueError(f"{norm=} is unknown; it is 'bn', 'gn' or 'none'.")
        self.conv = Conv(channels, channels, kernel_size, rngs=rngs)

    def __call__(self, x: Array, *, train: bool) -> Array:
        if isinstance(self.norm, BatchNorm):
            x = self.norm(x, train=train)
        elif self.norm is not None:
            x = self.norm(x)
        return self.conv(nnx.relu(x))


class Stage(nnx.Module):
    """A Kuramoto layer and its readout: norms, a residual block, a last convolution.

    Args:
        before: channels of the stage before; None is the first.
        stride: of the convolution that x and c come in through; one convolution for both.
    """

    def __init__(
        self,
        layer: KuramotoLayer,
        channels: int,
        *,
        before: int | None,
        stride: int,
        vector_dim: int,
        kernel_size: int,
        norm: str,
        rngs: nnx.Rngs,
    ) -> None:
        self.enter = (
            Conv(before, channels, kernel_size, stride=stride, rngs=rngs) if before else None
        )
        self.layer = layer
        project = Conv(channels, channels * vector_dim, kernel_size, rngs=rngs)
        self.readout = Readout(project, vector_dim)
        self.residual = nnx.List(
            NormedConv(channels, kernel_size, norm, rngs=rngs) for _ in range(2)
        )
        self.out = NormedConv(channels, kernel_size, norm, rngs=rngs)

    def __call__(
        self, x: Array, c: Array, *, num_steps: int, gamma: Array, trajectory: bool, train: bool
    ) -> tuple[Array, Array, tuple[Array, Array] | None]:
        """Oscillators and stimulus of the next stage, and the steps (see `kuramoto`)."""
        if self.enter is not None:
            x, c = self.enter(x), self.enter(c)
        x, steps = self.layer(x, c, num_steps=num_steps, gamma=gamma, trajectory=trajectory)
        c = y = self.readout(x)
        for conv in self.residual:
            y = conv(y, train=train)
        return x, self.out(c + y, train=train), steps


class Model(nnx.Module):
    """L Kuramoto layers of growing width and falling resolution, and a class of the last readout.

    Args:
        channels: of the first layer; each further one has twice as many.
        num_classes: logits.
        num_layers: L. The second and third halve the resolution.
        num_steps: T, one number or one a layer.
        oscillator_dim: N, one number or one a layer.
        connectivity: "conv", "attn" or "mlp", one or one a layer, see `KuramotoLayer`.
        kernel_size: of the convolutional connectivity, one number or one a layer.
        heads: of the attention, which has no positions here.
        stimulus_norm: "none", "gn" or "sandb", applied to c before the loop.
        use_omega, global_omega, init_omega, learn_omega: natural frequencies, see `Omega`.
        gamma: step size; not trained.
        readout_dim: of the vectors whose norms are read out, one number or one a layer.
        readout_kernel_size: of all convolutions but the connectivity.
        norm: of the readout: "bn", "gn" or "none".
        project, sphere, identity_drift: see `kuramoto`.
        ensemble: random starts whose logits are averaged.
        remat: compute each step again in the backward pass instead of keeping what it needs.
    """

    def __init__(
        self,
        *,
        channels: int = 64,
        num_classes: int = 10,
        num_layers: int = 3,
        num_steps: int | Sequence[int] = 3,
        oscillator_dim: int | Sequence[int] = 2,
        connectivity: str | Sequence[str] = "conv",
        kernel_size: int | Sequence[int] = (9, 7, 5),
        heads: int = 8,
        stimulus_norm: str = "gn",
        use_omega: bool = True,
        global_omega: bool = True,
        init_omega: float = 1.0,
        learn_omega: bool = True,
        gamma: float = 1.0,
        readout_dim: int | Sequence[int] = 2,
        readout_kernel_size: int = 3,
        norm: str = "bn",
        project: bool = True,
        sphere: bool = True,
        identity_drift: bool = True,
        ensemble: int = 1,
        remat: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_steps = per_layer("num_steps", num_steps, num_layers)
        self.ensemble = ensemble
        self.gamma = Buffer(jnp.full((1,), gamma))
        self.stem = Conv(3, channels, 3, use_bias=False, rngs=rngs)
        dims = per_layer("oscillator_dim", oscillator_dim, num_layers)
        kinds = per_layer("connectivity", connectivity, num_layers)
        sizes = per_layer("kernel_size", kernel_size, num_layers)
        readouts = per_layer("readout_dim", readout_dim, num_layers)
        widths = [channels * 2**l for l in range(num_layers)]
        self.stages = nnx.List()
        for l, width in enumerate(widths):
            layer = KuramotoLayer(
                width,
                oscillator_dim=dims[l],
                grid=(1, 1),  # of GTA, which is off
                connectivity=kinds[l],
                heads=heads,
                kernel_size=sizes[l],
                gta=False,
                stimulus_norm=stimulus_norm,
                use_omega=use_omega,
                global_omega=global_omega,
                init_omega=init_omega,
                learn_omega=learn_omega,
                tangent=project,
                sphere=sphere,
                identity_drift=identity_drift,
                remat=remat,
                unroll=False,
                rngs=rngs,
            )
            self.stages.append(
                Stage(
                    layer,
                    width,
                    before=widths[l - 1] if l else None,
                    stride=2 if l <= HALVED else 1,
                    vector_dim=readouts[l],
                    kernel_size=readout_kernel_size,
                    norm=norm,
                    rngs=rngs,
                )
            )
        self.classifier = linear(widths[-1], num_classes, keep_float32=True, rngs=rngs)

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        x0: Array | None = None,
        num_steps: int | Sequence[int] | None = None,
        ensemble: int | None = None,
    ) -> ModelOutput:
        """Names the class of an image.

        Args:
            images: `[B, H, W, 3]` in [0, 1].
            key: draws the initial oscillators, also at evaluation; a key or a `Noise`.
            train: batch norms use the statistics of the batch and record them; those of all
                random starts together, where there are several.
            trajectory: keep every step's oscillators and energies; of one start alone.
            x0: the initial oscillators `[B, H, W, C]`, of an ensemble `[E, B, H, W, C]`; instead
                of `key`.
            num_steps: T, where not the model's own.
            ensemble: E, where not the model's own.

        Returns:
            `logits` `[B, num_classes]`, `embedding` (what they are a linear map of), `features`
            (the last readout, of the first start) and, if asked for, `trajectory`.

        Raises:
            ValueError: E is not positive, or a trajectory of several starts is asked for.
        """
        starts = self.ensemble if ensemble is None else ensemble
        if starts < 1 or (trajectory and starts > 1):
            raise ValueError(f"ensemble={starts}: give 1 or more, and 1 for a trajectory.")
        T = (
            self.num_steps
            if num_steps is None
            else per_layer("num_steps", num_steps, len(self.stages))
        )
        batch, gamma = len(images), self.gamma[...]
        c = self.stem((images - 0.5) / 0.5)
        if x0 is None:
            noise = None if key is None else Noise.of(key)
            x = jnp.concatenate([initial_oscillators(c, noise, None) for _ in range(starts)])
        else:
            x = x0.reshape(-1, *x0.shape[-3:])
        c = jnp.tile(c, (starts, 1, 1, 1))
        x = initial_oscillators(c, None, x)
        states, energies = [], []
        for stage, steps in zip(self.stages, T, strict=True):
            x, c, found = stage(
                x, c, num_steps=steps, gamma=gamma, trajectory=trajectory, train=train
            )
            if trajectory:
                states.append(found[0])
                energies.append(found[1])
        embedding = jnp.mean(average_pool(c).reshape(starts, batch, -1), axis=0)
        return ModelOutput(
            logits=self.classifier(embedding),  # of the mean, which is the mean of the logits
            embedding=embedding,
            features=c[:batch],
            trajectory=trajectory_of(states, energies) if trajectory else None,
        )
