"""Iterated residual networks: the non-oscillatory counterparts of AKOrN (arXiv 2410.13821, sec. 5).

One residual layer with shared weights is applied T times, as a Kuramoto layer is.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.convolution import GridConv
from akorn_jax.layers.head import ProjectionHead
from akorn_jax.layers.image_groups import by_groups
from akorn_jax.layers.linear import linear
from akorn_jax.layers.patch import PatchEmbedding, pair, rescale, token_grid
from akorn_jax.layers.position import sinusoidal_table
from akorn_jax.layers.precision import KEEP
from akorn_jax.outputs import ModelOutput

Array = jax.Array


def layer_norm(channels: int, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer normalisation over the channels of `[..., C]`, as in PyTorch."""
    return nnx.LayerNorm(channels, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


class MLP(nnx.Module):
    """`[..., C]` to `[..., C]` through one hidden layer with exact GELU."""

    def __init__(self, channels: int, hidden: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = linear(channels, hidden, rngs=rngs)
        self.out = linear(hidden, channels, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.out(jax.nn.gelu(self.hidden(x), approximate=False))


class IteratedBlock(nnx.Module):
    """T times x <- x + mixer(LN(x)), then once x <- x + MLP(LN(x)); x `[B, h, w, C]`."""

    def __init__(
        self,
        mixer: nnx.Module,
        channels: int,
        mlp_dim: int,
        *,
        remat: bool,
        unroll: bool,
        rngs: nnx.Rngs,
    ) -> None:
        self.mixer = mixer
        self.norm = layer_norm(channels, rngs=rngs)
        self.mlp = MLP(channels, mlp_dim, rngs=rngs)
        self.mlp_norm = layer_norm(channels, rngs=rngs)
        self.remat = remat
        self.unroll = unroll

    def __call__(
        self, x: Array, num_steps: int, *, trajectory: bool = False
    ) -> tuple[Array, Array | None]:
        """Returns the output and, with `trajectory`, the tokens of each step `[T, B, h, w, C]`."""

        def step(x: Array, _: None) -> tuple[Array, Array | None]:
            x = x + self.mixer(self.norm(x))
            return x, x if trajectory else None

        if self.remat:
            step = jax.checkpoint(step)

        def run(x: Array) -> tuple[Array, Array | None]:
            unroll = num_steps if self.unroll else 1
            x, steps = jax.lax.scan(step, x, None, num_steps, unroll=unroll)
            return self.finish(x), steps

        # A convolution would transform its kernel again for each group.
        if trajectory or isinstance(self.mixer, GridConv):
            return run(x)
        return by_groups(lambda x: run(x)[0], x), None

    def finish(self, x: Array) -> Array:
        """The block's output `[..., C]` of the tokens after their last step."""
        return x + self.mlp(self.mlp_norm(x))


class IteratedNetwork(nnx.Module):
    """Patches, positions, L iterated blocks and a head.

    Args:
        make_mixer: makes a block's mixer of tokens from the token grid (h, w).
        channels: C.
        num_layers: L.
        num_steps: T, of every block; may be changed after training.
        patch_size: pixels of a token's side.
        image_size: pixels of the training images' side, or (height, width).
        mlp_dim: width of the MLP's hidden layer.
        positions: add a learnable position table (sinusoidal at first) to the tokens.
        pool: "max" or "avg" before the head.
        autorescale: resize images of another size to `image_size` first.
        remat: compute each step again in the backward pass instead of keeping what it needs: a
            fraction of the memory, and on CPUs no slower.
        unroll: lay the loop over steps out flat: T times the program to compile, no loop to run.
    """

    def __init__(
        self,
        make_mixer: Callable[[tuple[int, int]], nnx.Module],
        *,
        channels: int,
        num_layers: int,
        num_steps: int,
        patch_size: int,
        image_size: int | Sequence[int],
        mlp_dim: int,
        positions: bool,
        pool: str,
        autorescale: bool,
        remat: bool,
        unroll: bool,
        rngs: nnx.Rngs,
    ) -> None:
        grid = token_grid(image_size, patch_size)
        self.image_size = pair(image_size)
        self.autorescale = autorescale
        self.num_steps = num_steps
        self.patches = PatchEmbedding(channels, patch_size, rngs=rngs)
        self.position = (
            nnx.Param(jnp.array(sinusoidal_table(*grid, channels)), **KEEP) if positions else None
        )
        self.blocks = nnx.List(
            IteratedBlock(
                make_mixer(grid), channels, mlp_dim, remat=remat, unroll=unroll, rngs=rngs
            )
            for _ in range(num_layers)
        )
        self.norm = layer_norm(channels, rngs=rngs)
        self.head = ProjectionHead(channels, pool=pool, rngs=rngs)

    def __call__(
        self,
        images: Array,
        *,
        key: Array | None = None,
        train: bool = False,
        trajectory: bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to `features` (after the last norm) and `embedding`.

        Nothing here is random or differs in training: `key` and `train` are taken because every
        model takes them. With `trajectory`,
        the tokens after each step, `{"tokens": (per layer [T, B, h, w, C])}`, come too.
        """
        del key, train
        if self.autorescale:
            images = rescale(images, self.image_size)
        x = self.patches(images)
        if self.position is not None:
            if x.shape[1:] != self.position.shape:
                raise ValueError(
                    f"The position table is for tokens {self.position.shape[:2]}, an image gave "
                    f"{x.shape[1:3]}; use autorescale=True."
                )
            x = x + self.position[...]
        tokens = []
        for block in self.blocks:
            x, steps = block(x, self.num_steps, trajectory=trajectory)
            tokens.append(steps)
        features = self.norm(x)
        return ModelOutput(
            features=features,
            embedding=self.head(features),
            trajectory={"tokens": tuple(tokens)} if trajectory else None,
        )
