"""Losses that compare what a model gave with what it should have given."""

import jax
import jax.numpy as jnp
import optax

Array = jax.Array

_MORE_THAN_ANY_SUM = 1e3  # of the costs of an image's pairs, each less than 1 for sigmoids


def nt_xent(za: Array, zb: Array, temperature: float, normalize: bool = True) -> Array:
    """Normalised temperature-scaled cross entropy (SimCLR, arXiv 2002.05709, eq. 1).

    Each of the 2 B embeddings must find its partner among the other 2 B - 1. Under jit on a mesh
    the B pairs are those of the global batch.

    Args:
        za, zb: embeddings of the two views of B images, `[B, D]` each.
        temperature: divides the similarities.
        normalize: compare directions (cosine similarity) instead of vectors.

    Returns:
        The mean over all 2 B embeddings, a scalar; 0 for one pair.
    """
    z = jnp.concatenate([za, zb]).astype(jnp.float32)
    if normalize:
        squared = jnp.sum(z * z, axis=1, keepdims=True)
        z = z * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))
    similarity = jnp.matmul(z, z.T, precision="highest") / temperature
    similarity = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, similarity)
    partner = jnp.roll(jnp.arange(len(z)), len(za))
    positive = jnp.take_along_axis(similarity, partner[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(similarity, axis=1) - positive)


def pairwise_huber(pred: Array, target: Array) -> Array:
    """Huber's loss (delta 1) of every prediction with every target, mean over the features.

    Args:
        pred: `[B, K, P]`.
        target: `[B, M, P]`.

    Returns:
        `[B, K, M]`.
    """
    return optax.losses.huber_loss(pred[:, :, None], target[:, None]).mean(axis=-1)


def least_cost_pairs(cost: Array, last: Array | None = None) -> Array:
    """The entries of cost `[B, K, M]` that an assignment of least sum picks, `[B, min(K, M)]`.

    Columns where `last`, bool `[B, M]`, is true are picked only when no others are left.

    The assignment has no gradient. It is computed on the device: SciPy in a callback, which would
    need a host in the step, is not clearly faster. With costs and gradient at B = 512, K = M = 10,
    the fastest of many rounds were 18 ms here and 21 ms by SciPy, at another time 66 and 52 ms, on
    two CPU cores that other work shared (`python -m benchmarks.assignment`).
    """
    fixed = jax.lax.stop_gradient(cost)
    if last is not None:
        fixed += last[:, None] * _MORE_THAN_ANY_SUM
    rows, columns = jax.vmap(optax.assignment.hungarian_algorithm)(fixed)
    return jax.vmap(lambda c, i, j: c[i, j])(cost, rows, columns)
