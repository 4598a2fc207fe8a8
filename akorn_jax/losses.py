"""Losses that compare what a model gave with what it should have given."""

import jax
import jax.numpy as jnp

Array = jax.Array


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
