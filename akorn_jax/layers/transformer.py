"""An autoregressive transformer decoder (arXiv 1706.03762) with SLATE's norms and initial weights.

B sequences of L tokens with C features read a memory of K vectors with C features. Whole sequences
are decoded at once in training; generation extends a sequence token by token and keeps the keys and
values of what came before (`Cache`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.dropout import dropout
from akorn_jax.layers.linear import Linear
from akorn_jax.layers.noise import Noise

Array = jax.Array

layer_norm = functools.partial(nnx.LayerNorm, epsilon=1e-5, use_fast_variance=False)
he_uniform = nnx.initializers.he_uniform()


def glorot_uniform(gain: float = 1.0) -> nnx.Initializer:
    """Uniform in ± gain sqrt(6 / (fan_in + fan_out)): PyTorch's `xavier_uniform_`."""
    return nnx.initializers.variance_scaling(gain**2, "fan_avg", "uniform")


class KeysValues(NamedTuple):
    """Keys and values `[B, heads, n, d]`, where heads * d = C."""

    keys: Array
    values: Array


class Cache(NamedTuple):
    """What one block keeps while a sequence grows.

    Attributes:
        tokens: n = L; zeros where no token is yet.
        memory: n = K.
    """

    tokens: KeysValues
    memory: KeysValues


class MultiHeadAttention(nnx.Module):
    """Attention without biases; keys and values are made apart, so that they can be cached.

    Args:
        channels: C.
        heads: divides C.
        dropout_rate: of the attention weights and of the output.
        gain: of the output's initial weights.
    """

    def __init__(
        self, channels: int, heads: int, *, dropout_rate: float, gain: float, rngs: nnx.Rngs
    ) -> None:
        if channels % heads:
            raise ValueError(f"{channels=} is not divisible by num_heads={heads}.")

        def project(gain: float = 1.0) -> Linear:
            init = glorot_uniform(gain)
            return Linear(channels, channels, use_bias=False, kernel_init=init, rngs=rngs)

        self.heads = heads
        self.dropout_rate = dropout_rate
        self.to_q, self.to_k, self.to_v = project(), project(), project()
        self.out = project(gain)

    def keys_values(self, source: Array) -> KeysValues:
        """Of a source `[B, n, C]`."""
        return KeysValues(self._split(self.to_k(source)), self._split(self.to_v(source)))

    def __call__(
        self,
        x: Array,
        source: KeysValues,
        *,
        visible: Array | None = None,
        noise: Noise | None = None,
    ) -> Array:
        """Tokens x `[B, m, C]` gather from a source: `[B, m, C]`.

        Args:
            x: makes the queries.
            source: what is attended to.
            visible: `[m, n]`, which entries of the source a query may see; all if None.
            noise: of the dropout; None is evaluation.
        """
        q = self._split(self.to_q(x))  # [B, heads, m, d]
        logits = jnp.einsum(
            "bhmd,bhnd->bhmn", q, source.keys, preferred_element_type=jnp.float32
        ) * (q.shape[-1] ** -0.5)
        if visible is not None:
            logits = jnp.where(visible, logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-1)
        weights = dropout(weights, self.dropout_rate, noise).astype(source.values.dtype)
        y = jnp.einsum("bhmn,bhnd->bmhd", weights, source.values)
        return dropout(self.out(y.reshape(x.shape)), self.dropout_rate, noise)

    def _split(self, x: Array) -> Array:
        """`[B, n, C]` to `[B, heads, n, d]`."""
        return x.reshape(*x.shape[:-1], self.heads, -1).swapaxes(1, 2)


class DecoderBlock(nnx.Module):
    """Self-attention to the past, attention to the memory, MLP: each a residual with a norm before.

    Args:
        channels, heads, dropout_rate: see `MultiHeadAttention`; the MLP has 4 C hidden features.
        gain: of the initial weights that end each residual branch.
        first: the block's first norm replaces the residual stream itself. SLATE's first block does
            so, as embeddings come with a scale of their own.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        dropout_rate: float,
        gain: float,
        first: bool,
        rngs: nnx.Rngs,
    ) -> None:
        attention = functools.partial(
            MultiHeadAttention, channels, heads, dropout_rate=dropout_rate, gain=gain, rngs=rngs
        )
        self.first = first
        self.dropout_rate = dropout_rate
        self.norm_tokens = layer_norm(channels, rngs=rngs)
        self.attend_tokens = attention()
        self.norm_memory = layer_norm(channels, rngs=rngs)
        self.attend_memory = attention()
        self.norm_mlp = layer_norm(channels, rngs=rngs)
        self.mlp_hidden = Linear(channels, 4 * channels, kernel_init=he_uniform, rngs=rngs)
        self.mlp_out = Linear(4 * channels, channels, kernel_init=glorot_uniform(gain), rngs=rngs)

    def __call__(self, x: Array, memory: Array, noise: Noise | None = None) -> Array:
        """Tokens x `[B, L, C]` and memory `[B, K, C]` to tokens `[B, L, C]`."""
        y = self.norm_tokens(x)
        cache = Cache(self.attend_tokens.keys_values(y), self.attend_memory.keys_values(memory))
        past = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        return self._residuals(x, y, cache, past, noise)

    def start(self, memory: Array, length: int) -> Cache:
        """The cache of a sequence of up to `length` tokens that has none yet."""
        source = self.attend_memory.keys_values(memory)
        batch, heads, _, d = source.keys.shape
        empty = jnp.zeros((batch, heads, length, d), source.keys.dtype)
        return Cache(KeysValues(empty, empty), source)

    def extend(self, x: Array, cache: Cache, t: Array) -> tuple[Array, Cache]:
        """Token number t, x `[B, 1, C]`, to its output `[B, 1, C]` and the cache that has it."""
        y = self.norm_tokens(x)
        tokens = jax.tree.map(
            lambda all_, one: jax.lax.dynamic_update_slice_in_dim(all_, one, t, axis=2),
            cache.tokens,
            self.attend_tokens.keys_values(y),
        )
        cache = Cache(tokens, cache.memory)
        past = jnp.arange(tokens.keys.shape[2])[None] <= t  # [1, L]
        return self._residuals(x, y, cache, past, noise=None), cache

    def _residuals(
        self, x: Array, y: Array, cache: Cache, past: Array, noise: Noise | None
    ) -> Array:
        """The block after its first norm, whose output is y."""
        x = y if self.first else x
        x = x + self.attend_tokens(y, cache.tokens, visible=past, noise=noise)
        x = x + self.attend_memory(self.norm_memory(x), cache.memory, noise=noise)
        hidden = jax.nn.relu(self.mlp_hidden(self.norm_mlp(x)))
        return x + dropout(self.mlp_out(hidden), self.dropout_rate, noise)


class TransformerDecoder(nnx.Module):
    """A stack of `DecoderBlock`s and a last norm.

    Args:
        channels, heads, dropout_rate: see `DecoderBlock`.
        num_blocks: at least 1.
        remat: recompute each block in the backward pass: memory for attention weights, `[B, heads,
            L, L]` per block, is that of one block.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        num_blocks: int,
        dropout_rate: float = 0.0,
        remat: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"{num_blocks=}: a transformer has at least 1 block.")
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout={dropout_rate} must be in [0, 1).")
        self.remat = remat
        self.blocks = nnx.List(
            DecoderBlock(
                channels,
                heads,
                dropout_rate=dropout_rate,
                gain=(3 * num_blocks) ** -0.5,  # three residual branches per block
                first=i == 0,
                rngs=rngs,
            )
            for i in range(num_blocks)
        )
        self.norm = layer_norm(channels, rngs=rngs)

    def __call__(self, x: Array, memory: Array, noise: Noise | None = None) -> Array:
        """Each token's output depends on itself, those before it, and the memory.

        Args:
            x: `[B, L, C]`.
            memory: `[B, K, C]`.
            noise: of the dropout; None is evaluation.

        Returns:
            `[B, L, C]`.
        """
        for block in self.blocks:
            decode = functools.partial(block, noise=noise)
            x = (jax.checkpoint(decode) if self.remat else decode)(x, memory)
        return self.norm(x)

    def start(self, memory: Array, length: int) -> list[Cache]:
        """The caches of a sequence of up to `length` tokens that has none yet."""
        return [block.start(memory, length) for block in self.blocks]

    def extend(self, x: Array, caches: list[Cache], t: Array) -> tuple[Array, list[Cache]]:
        """`__call__`, token by token: the output of token t, given those before it in the caches.

        Args:
            x: `[B, 1, C]`, token t alone.
            caches: of `start` or of token t - 1.
            t: `[]` int32, from 0.

        Returns:
            `[B, 1, C]` and the caches for token t + 1.
        """
        extended = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.extend(x, cache, t)
            extended.append(cache)
        return self.norm(x), extended
