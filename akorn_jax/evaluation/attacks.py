"""Attacks on classifiers of images within a distance of epsilon, the largest change of a pixel.

A classifier is `logits(images [B, H, W, C] in [0, 1], key) -> [B, n]`. What it draws depends on the
key, so a gradient is an expectation over keys (EoT, arXiv 1707.07397) or one sample of it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax import losses

Array = jax.Array
Logits = Callable[[Array, Array], Array]

HALVINGS = 6  # of a radius that is searched


def within(images: Array, origin: Array, epsilon: Array) -> Array:
    """The nearest images that are no further than epsilon from the origin and in [0, 1]."""
    return jnp.clip(jnp.clip(images, origin - epsilon, origin + epsilon), 0, 1)


def random_signs(images: Array, key: Array, epsilon: Array) -> Array:
    """Every number moved by epsilon, up or down at random, within [0, 1]."""
    return jnp.clip(images + epsilon * jax.random.rademacher(key, images.shape, images.dtype), 0, 1)


def gradient(logits: Logits, images: Array, labels: Array, key: Array, num_starts: Array) -> Array:
    """The gradient of the cross-entropy, the mean over `num_starts` keys, in the images' shape."""

    def loss(images: Array, key: Array) -> Array:
        return jnp.sum(losses.cross_entropy(logits(images, key), labels))

    def add(i: Array, total: Array) -> Array:
        return total + jax.grad(loss)(images, jax.random.fold_in(key, i)) / num_starts

    return jax.lax.fori_loop(0, num_starts, add, jnp.zeros_like(images))


def projected_gradient(
    logits: Logits,
    images: Array,
    labels: Array,
    key: Array,
    *,
    epsilon: Array,
    step_size: Array,
    num_steps: Array,
    num_starts: Array,
    spread: Array,
) -> Array:
    """Adversarial images by ascent along the gradient's signs (PGD, arXiv 1706.06083).

    One step of size epsilon is FGSM (arXiv 1412.6572).

    Args:
        logits: see above.
        images: `[B, H, W, C]` in [0, 1].
        labels: `[B]`.
        key: of the random place to begin at and of the classifier's draws.
        epsilon, step_size: of a pixel's change in all and in a step.
        num_steps: of the ascent.
        num_starts: keys that each gradient is a mean over.
        spread: the ascent begins uniformly within this times epsilon; 0 is at the images.
    """
    first, key = jax.random.split(key)
    noise = jax.random.uniform(first, images.shape, images.dtype, -1, 1)

    def ascend(i: Array, found: Array) -> Array:
        g = gradient(logits, found, labels, jax.random.fold_in(key, i), num_starts)
        return within(found + step_size * jnp.sign(g), images, epsilon)

    begin = within(images + spread * epsilon * noise, images, epsilon)
    return jax.lax.fori_loop(0, num_steps, ascend, begin)


def decisions(
    logits: Logits,
    images: Array,
    labels: Array,
    key: Array,
    *,
    epsilon: Array,
    num_queries: int,
    num_starts: int,
) -> tuple[Array, Array]:
    """Adversarial images by a search that sees the named class alone (RayS, arXiv 2006.12792).

    Along a vector of signs the nearest radius that changes the class is searched by halving; then
    blocks of the signs, halves, quarters and so on, are flipped, and kept where that comes nearer.

    Args:
        logits: see above; the class is that of the mean of the logits over `num_starts` keys.
        images, labels, key, epsilon: see `projected_gradient`.
        num_queries: asked of the classifier for each image, in whole searches.

    Returns:
        The images moved by the radius that was found, or as they were where it exceeds epsilon;
        and the radii `[B]`, infinite where no class changed.
    """
    size = int(np.prod(images.shape[1:]))
    masks = blocks(size, max(num_queries // (HALVINGS + 1) - 1, 0)).reshape(-1, *images.shape[1:])

    def moved(signs: Array, radius: Array) -> Array:
        return jnp.clip(images + radius[:, None, None, None] * signs, 0, 1)

    def fooled(signs: Array, radius: Array, key: Array) -> Array:
        x = moved(signs, radius)
        each = jax.lax.map(lambda k: logits(x, k), jax.random.split(key, num_starts))
        return jnp.argmax(jnp.mean(each, axis=0), axis=-1) != labels

    def nearest(signs: Array, radius: Array, key: Array) -> Array:
        """The radius up to which the class stays, given one at which it does not."""

        def halve(i: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = (low + high) / 2
            inside = fooled(signs, middle, jax.random.fold_in(key, i))
            return jnp.where(inside, low, middle), jnp.where(inside, middle, high)

        return jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(radius), radius))[1]

    def search(state: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple, None]:
        signs, radius = state
        mask, key = now
        ask, halve = jax.random.split(key)
        other = jnp.where(mask, -signs, signs)
        largest = jnp.minimum(radius, 1.0)
        better = fooled(other, largest, ask)
        found = nearest(other, largest, halve)
        keep = better[:, None, None, None]
        return (jnp.where(keep, other, signs), jnp.where(better, found, radius)), None

    masks = jnp.concatenate([jnp.zeros((1, *images.shape[1:]), bool), jnp.asarray(masks)])
    begin = jnp.ones_like(images), jnp.full(len(images), jnp.inf)
    keys = jax.random.split(key, len(masks))
    (signs, radius), _ = jax.lax.scan(search, begin, (masks, keys))
    near = radius <= epsilon
    return jnp.where(near[:, None, None, None], moved(signs, jnp.where(near, radius, 0)), images), (
        radius
    )


def blocks(size: int, count: int) -> np.ndarray:
    """Which of `size` numbers are flipped at a time, bool `[count, size]`: all, halves, quarters.

    After single numbers it begins again.
    """
    found = np.zeros((count, size), bool)
    level, block = 0, 0
    for row in found:
        parts = min(2**level, size)
        row[block * size // parts : (block + 1) * size // parts] = True
        block += 1
        if block == parts:
            level, block = (0 if parts == size else level + 1), 0
    return found
