"""Masks that share out each pixel, in log space: shares of a pixel are down to e^-100."""

import jax
import jax.numpy as jnp

Array = jax.Array


def check_num_slots(num_slots: int, num_pixels: int | None = None) -> None:
    """Raises a ValueError unless masks can divide an image.

    Args:
        num_slots: K, at least 2.
        num_pixels: where each mask begins at a pixel of its own, how many there are.
    """
    if num_slots < 2:
        raise ValueError(f"{num_slots=} must be at least 2: masks divide an image.")
    if num_pixels is not None and num_slots > num_pixels:
        raise ValueError(f"{num_slots=} must be at most {num_pixels}: masks begin at pixels.")


def break_stick(log_scope: Array, log_alpha: Array, log_rest: Array) -> tuple[Array, Array]:
    """One slot takes its share alpha of what earlier slots have left of each pixel, the scope.

    Args:
        log_scope: s, at first 0 everywhere.
        log_alpha, log_rest: log alpha and log(1 - alpha), of the same shape.

    Returns:
        The slot's mask, log(s alpha), and the scope of the next, log(s (1 - alpha)).
    """
    return log_scope + log_alpha, log_scope + log_rest


def stick_breaking(logits: Array) -> Array:
    """Log masks of K slots at once, where the last one takes what the others have left.

    Args:
        logits: of the shares alpha of all but the last, `[B, K - 1, ...]`.

    Returns:
        `[B, K, ...]`; the masks sum to 1 over K.
    """
    log_alpha, log_rest = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    whole = jnp.zeros_like(logits[:, :1])
    log_scope = jnp.concatenate([whole, jnp.cumsum(log_rest, axis=1)], axis=1)
    return log_scope + jnp.concatenate([log_alpha, whole], axis=1)


def mask_kl(log_q: Array, log_p: Array, *, axis: int = 1) -> Array:
    """KL(q || p) of each pixel's shares, which lie along `axis`; the shape without it."""
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=axis)


def bounded_masks(log_masks: Array, smallest: float, *, axis: int = 1) -> Array:
    """Log masks whose shares are raised to `smallest` at least, then sum to 1 again."""
    log_masks = jnp.maximum(log_masks, jnp.log(smallest))
    return jax.nn.log_softmax(log_masks, axis=axis)


def composite(masks: Array, patches: Array) -> Array:
    """The image that masks `[B, K, H, W]` mix of patches `[B, K, H, W, C]`: `[B, H, W, C]`."""
    return jnp.sum(masks[..., None] * patches, axis=1)
