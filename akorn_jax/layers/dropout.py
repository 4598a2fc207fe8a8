"""Dropout whose masks come from `Noise`, so that a test can replay them."""

import jax
import jax.numpy as jnp

from akorn_jax.layers.noise import Noise

Array = jax.Array


def dropout(x: Array, rate: float, noise: Noise | None) -> Array:
    """Zeroes entries of x with probability `rate` and divides the others by 1 - `rate`.

    Args:
        x: any shape.
        rate: in [0, 1); nothing is drawn at 0.
        noise: one uniform draw per entry, kept where it is above `rate`; None is evaluation.
    """
    if noise is None or rate == 0:
        return x
    keep = noise.uniform(x.shape) > rate
    return jnp.where(keep, x / (1 - rate), 0)
