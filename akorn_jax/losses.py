"""Losses that compare what a model gave with what it should have given."""

import jax
import jax.numpy as jnp
import optax

Array = jax.Array

ANCHORS = ("all", "first")  # of `sup_con`

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
    z = _unit(z) if normalize else z
    similarity = jnp.matmul(z, z.T, precision="highest") / temperature
    similarity = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, similarity)
    partner = jnp.roll(jnp.arange(len(z)), len(za))
    positive = jnp.take_along_axis(similarity, partner[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(similarity, axis=1) - positive)


def sup_con(
    z: Array,
    labels: Array | None = None,
    *,
    temperature: float | Array = 0.07,
    base_temperature: float | Array | None = None,
    mask: Array | None = None,
    anchors: str = "all",
    normalize: bool = True,
) -> Array:
    """Supervised contrastive loss (arXiv 2004.11362, eq. 2): views of a class attract each other.

    Of each anchor i, with P(i) the other views of its class,

        -1 / |P(i)| sum over p in P(i) of log(exp(z_i . z_p / t) / sum over a != i of
        exp(z_i . z_a / t)),

    times temperature / base_temperature; then the mean over the anchors that have a positive. (The
    published code is not a number as soon as one anchor has none, which two views exclude.) Under
    jit on a mesh the views are those of the global batch.

    Args:
        z: embeddings of V views of B images, `[B, V, D]`.
        labels: classes `[B]`; None: each image is a class of its own (SimCLR).
        temperature: t, divides the similarities.
        base_temperature: 0.07 in the published code whatever t is, which scales its loss by
            t / 0.07; None: t, no scale.
        mask: bool `[B, B]` instead of labels, whether image j is positive for image i.
        anchors: "all" views, or the "first" of each image.
        normalize: compare directions (cosine similarity) instead of vectors.

    Returns:
        A scalar; not a number if no anchor has a positive.

    Raises:
        ValueError: both labels and mask, unknown anchors, or no positive is possible: one view, and
            each image a class of its own.
    """
    B, V, D = z.shape
    if labels is not None and mask is not None:
        raise ValueError("Give labels or mask, not both: each says which images are positive.")
    if anchors not in ANCHORS:
        raise ValueError(f"{anchors=} is unknown; it is one of {', '.join(ANCHORS)}.")
    if labels is None and mask is None and V < 2:
        raise ValueError("A batch of one view per image has no positive pair: give labels.")
    if mask is None:
        mask = jnp.eye(B, dtype=bool) if labels is None else labels[:, None] == labels
    z = z.astype(jnp.float32)
    z = _unit(z) if normalize else z
    views = z.swapaxes(0, 1).reshape(V * B, D)  # view by view, as the anchors are
    anchor = views if anchors == "all" else z[:, 0]
    similarity = jnp.matmul(anchor, views.T, precision="highest") / temperature  # [A, V B]
    others = ~jnp.eye(len(anchor), V * B, dtype=bool)
    positive = jnp.tile(mask, (len(anchor) // B, V)) & others
    log_sum = jax.nn.logsumexp(similarity, axis=1, where=others)
    count = jnp.sum(positive, axis=1)
    mean_positive = jnp.sum(similarity, axis=1, where=positive) / jnp.maximum(count, 1)
    loss = jnp.sum(log_sum - mean_positive, where=count > 0) / jnp.sum(count > 0)
    return loss if base_temperature is None else loss * temperature / base_temperature


def cross_entropy(logits: Array, labels: Array) -> Array:
    """-log of the probability that a softmax over logits `[B, n]` gives to labels `[B]`, `[B]`."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), labels.astype(jnp.int32)
    )


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


def _unit(z: Array) -> Array:
    """z divided by its length along the last axis; zero stays zero, with a gradient of zero."""
    squared = jnp.sum(z * z, axis=-1, keepdims=True)
    return z * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))
