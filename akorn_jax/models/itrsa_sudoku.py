"""ItrSA for Sudoku, the baseline of AKOrN (arXiv 2410.13821, sec. 5.2); one step: a transformer."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.attention import Attention
from akorn_jax.layers.iterated import IteratedBlock, layer_norm
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.position import sinusoidal_table
from akorn_jax.layers.precision import KEEP
from akorn_jax.outputs import ModelOutput, readout_steps

Array = jax.Array


class Model(nnx.Module):
    """L blocks over the cells of a board, each of T times the same attention and then an MLP.

    Args:
        channels: C.
        num_layers: L.
        num_steps: T, of every block.
        size: n, side of the board and number of digits.
        heads: of the attention.
        mlp_dim: width of the MLP's hidden layer; 2 C unless given.
        gta: relative positions inside the attention instead of a position table.
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
        heads: int = 8,
        mlp_dim: int | None = None,
        gta: bool = False,
        remat: bool = True,
        unroll: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_steps = num_steps
        self.size = size
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (size + 1, channels)), **KEEP)
        table = None if gta else jnp.array(sinusoidal_table(size, size, channels))
        self.position = None if gta else nnx.Param(table, **KEEP)
        self.blocks = nnx.List(
            IteratedBlock(
                Attention(channels, heads, grid=(size, size), gta=gta, rngs=rngs),
                channels,
                2 * channels if mlp_dim is None else mlp_dim,
                remat=remat,
                unroll=unroll,
                rngs=rngs,
            )
            for _ in range(num_layers)
        )
        self.norm = layer_norm(channels, rngs=rngs)
        self.out = linear(channels, size, keep_float32=True, rngs=rngs)

    def __call__(
        self,
        boards: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_steps: int | None = None,
    ) -> ModelOutput:
        """Completes boards; nothing is random, `key` and `train` are there for all models.

        Args:
            boards: integers `[B, n, n]`, 1 to n, 0 where a digit is missing.
            trajectory: also `{"tokens": (per layer [T, B, n, n, C])}`, and the logits of some
                steps of the last block.
            num_steps: T, instead of the model's own.

        Returns:
            `logits` `[B, n, n, n]` of the digits 1 to n, and `trajectory` if asked for.
        """
        del key, train
        num_steps = self.num_steps if num_steps is None else num_steps
        x = self.embedding[...][boards]
        if self.position is not None:
            x = x + self.position[...]
        tokens = []
        for block in self.blocks:
            x, steps = block(x, num_steps, trajectory=trajectory)
            tokens.append(steps)
        logits = self.out(self.norm(x))
        if not trajectory:
            return ModelOutput(logits=logits)
        seen = tokens[-1][jnp.array(readout_steps(num_steps)) - 1]  # [S, B, n, n, C]
        seen = self.out(self.norm(self.blocks[-1].finish(seen)))
        return ModelOutput(logits=logits, trajectory={"tokens": tuple(tokens), "logits": (seen,)})
