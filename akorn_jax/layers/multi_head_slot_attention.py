"""Slot attention with several heads, and the initial weights, of SLATE (arXiv 2110.11405)."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.slot_attention import SlotAttention
from akorn_jax.layers.transformer import he_uniform

Array = jax.Array


class MultiHeadSlotAttention(SlotAttention):
    """Slot attention whose slots compete with several heads each.

    The softmax is over slots and heads together, so that the heads of a slot compete as well. What
    heads gather is set side by side, and the reported attention is their sum.

    Args:
        in_features, slot_size, num_iterations, gradient: see `SlotAttention`.
        num_heads: divides `slot_size`; 1 is `SlotAttention`.
    """

    def __init__(
        self,
        in_features: int,
        slot_size: int,
        *,
        num_heads: int,
        hidden_size: int,
        num_iterations: int,
        gradient: str,
        rngs: nnx.Rngs,
    ) -> None:
        if slot_size % num_heads:
            raise ValueError(f"{slot_size=} is not divisible by num_slot_heads={num_heads}.")
        super().__init__(
            in_features,
            slot_size,
            hidden_size=hidden_size,
            num_iterations=num_iterations,
            gradient=gradient,
            rngs=rngs,
        )
        self.num_heads = num_heads
        # The initial weights that differ from the paper of Slot Attention.
        for name in ("mu", "log_sigma"):
            bound = (3 / slot_size) ** 0.5
            draw = jax.random.uniform(rngs.params(), (1, slot_size), minval=-bound, maxval=bound)
            setattr(self, name, nnx.Param(draw))
        self.mlp_hidden = nnx.Linear(slot_size, hidden_size, kernel_init=he_uniform, rngs=rngs)

    def step(self, slots: Array, k: Array, v: Array, statistics: None) -> tuple[Array, Array]:
        """See `SlotAttention.step`."""
        slots, attention = super().step(slots, k, v, statistics)
        return slots, attention.sum(axis=1)

    def attend(self, slots: Array, k: Array) -> Array:
        """A `[B, heads, K, N]`."""
        q, k = self._split(self.to_q(self.norm_slots(slots))), self._split(k)
        logits = jnp.einsum("bhks,bhns->bhkn", q, k) * q.shape[-1] ** -0.5
        return jax.nn.softmax(logits, axis=(1, 2))

    def aggregate(self, attention: Array, v: Array, statistics: None) -> Array:
        """u `[B, K, S]`: each head's weighted mean."""
        attention = attention + 1e-8
        weights = attention / attention.sum(axis=-1, keepdims=True)
        u = jnp.einsum("bhkn,bhns->bkhs", weights, self._split(v))
        return u.reshape(*u.shape[:2], -1)

    def _split(self, x: Array) -> Array:
        """`[B, n, S]` to `[B, heads, n, S / heads]`."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).swapaxes(1, 2)
