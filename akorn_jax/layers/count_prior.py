"""A prior over how many of N cells have an object, told cell by cell (SPAIR, AAAI 2019)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

Array = jax.Array

PRESENCE_RANGE = np.float32([1e-6, 1 - 1e-6])  # of a presence's probability


def geometric_prior(p: float | Array, batch_size: int, num_cells: int) -> Array:
    """log P(n), n = 0 ... N objects in N cells, P(n) proportional to p^n: `[B, N + 1]`."""
    n = jnp.arange(num_cells + 1.0)
    return jnp.broadcast_to(jax.nn.log_softmax(xlogy(n, p)), (batch_size, num_cells + 1))


def count_prior(
    log_prior: Array, count: Array, present: Array, cells_left: Array
) -> tuple[Array, Array]:
    """The prior of a cell's presence, and the belief about the number of objects behind it.

    If there are n objects, and `count` were found, the next of the `cells_left` cells, which are
    all alike, has one with probability (n - count) / cells_left. Beliefs are logarithms: those in
    many objects are as small as p^16.

    Args:
        log_prior: log P(n | presence before), `[B, N + 1]`.
        count: objects before, `[B, 1]`.
        present: 0 or 1, of this cell, `[B, 1]`.
        cells_left: this one included.

    Returns:
        P(presence | presence before) `[B, 1]` and log P(n | presence up to here) `[B, N + 1]`.
    """
    n = jnp.arange(log_prior.shape[1])
    # Beyond these bounds n is impossible, and has been found so.
    given_n = jnp.clip((n - count) / cells_left, 0, 1)
    prior = jnp.sum(jnp.exp(log_prior) * given_n, axis=-1, keepdims=True)
    likelihood = jnp.where(present > 0, given_n, 1 - given_n)
    posterior = jax.nn.log_softmax(log_prior + jnp.log(likelihood), axis=-1)
    return jnp.clip(prior, *PRESENCE_RANGE), posterior
