"""Masks that share out each pixel, in log space: shares of a pixel are down to e^-100."""

import jax
import jax.numpy as jnp

Array = jax.Array


def break_stick(log_scope: Array, log_alpha: Array, log_rest: Array) -> tuple[Array, Array]:
    """One slot takes its share alpha of what earlier slots have left of each pixel, the scope.

    Args:
        log_scope: s, at first 0 everywhere.
        log_alpha, log_rest: log alpha and log(1 - alpha), of the same shape.

    Returns:
        The slot's mask, log(s alpha), and the scope of the next, log(s (1 - alpha)).
    """
    return log_scope + log_alpha, log_scope + log_rest


def mask_kl(log_q: Array, log_p: Array, *, axis: int = 1) -> Array:
    """KL(q || p) of each pixel's shares, which lie along `axis`; the shape without it."""
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=axis)


def bounded_masks(log_masks: Array, smallest: float, *, axis: int = 1) -> Array:
    """Log masks whose shares are raised to `smallest` at least, then sum to 1 again."""
    log_masks = jnp.maximum(log_masks, jnp.log(smallest))
    return jax.nn.log_softmax(log_masks, axis=axis)
