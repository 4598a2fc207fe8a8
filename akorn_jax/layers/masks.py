"""Masks that share every pixel among K parts."""

import jax
import jax.numpy as jnp

Array = jax.Array


def stick_breaking(logits: Array) -> Array:
    """Each part takes a share of what those before it left over; the last takes the rest.

    Args:
        logits: `[B, K - 1, ...]`, of the shares.

    Returns:
        Logarithms of the masks `[B, K, ...]`, which sum to 1 over K.
    """
    taken = jax.nn.log_sigmoid(logits)
    left = jnp.cumsum(jax.nn.log_sigmoid(-logits), axis=1)
    whole = jnp.zeros_like(logits[:, :1])
    return jnp.concatenate([taken, whole], axis=1) + jnp.concatenate([whole, left], axis=1)
