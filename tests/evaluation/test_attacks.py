"""Attacks on linear classifiers, whose nearest adversarial image is known; laws of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.evaluation import attacks

SHAPE = (4, 4, 1)
WEIGHTS = jax.random.normal(jax.random.key(0), SHAPE)
L1 = float(jnp.sum(jnp.abs(WEIGHTS)))
IMAGES = 0.5 + 0.02 * jax.random.normal(jax.random.key(1), (6, *SHAPE))


def margin(images):
    return jnp.sum(WEIGHTS * (images - 0.5), axis=(1, 2, 3))


def linear(images, key):
    del key
    m = margin(images)
    return jnp.stack([jnp.zeros_like(m), m], axis=-1)


LABELS = jnp.argmax(linear(IMAGES, None), axis=-1)
# How far a class is: the margin falls by epsilon times the L1 norm of the weights, and no faster.
RADII = np.abs(margin(IMAGES)) / L1


def ascend(logits=linear, **changed):
    settings = {
        "epsilon": 0.1, "step_size": 0.03, "num_steps": 10, "num_starts": 1, "spread": 1.0,
    }  # fmt: skip
    return attacks.projected_gradient(
        logits, IMAGES, LABELS, jax.random.key(2), **{**settings, **changed}
    )


@pytest.mark.parametrize("changed", [{}, {"spread": 0.0, "num_steps": 1, "step_size": 0.1}])
def test_ascent_finds_the_worst_image(changed):
    found = ascend(**changed)
    towards = jnp.where(LABELS == 1, -1.0, 1.0)[:, None, None, None]
    worst = jnp.clip(IMAGES + 0.1 * towards * jnp.sign(WEIGHTS), 0, 1)
    np.testing.assert_allclose(found, worst, atol=1e-6)


def test_images_stay_in_reach():
    far = ascend(epsilon=0.7, step_size=0.5)
    assert far.min() >= 0
    assert far.max() <= 1
    for found in (ascend(), ascend(num_steps=0)):
        assert jnp.abs(found - IMAGES).max() <= 0.1 + 1e-6
    moved = attacks.random_signs(IMAGES, jax.random.key(0), 0.25)
    np.testing.assert_allclose(jnp.abs(moved - IMAGES), 0.25, atol=1e-6)
    assert 0.3 < jnp.mean(moved > IMAGES) < 0.7
    assert attacks.random_signs(IMAGES, jax.random.key(0), 0.9).max() == 1


def test_gradients_are_means_over_starts():
    """With noise much larger than the weights one start misleads and many do not."""

    def noisy(images, key):
        noise = 3 * jax.random.normal(key, SHAPE)
        return linear(images, None) + jnp.sum(noise * (images - 0.5), axis=(1, 2, 3))[:, None] * (
            jnp.array([0.0, 1.0])
        )

    def mean(num_starts):
        return attacks.gradient(noisy, IMAGES, LABELS, jax.random.key(3), num_starts)

    keys = [jax.random.fold_in(jax.random.key(3), i) for i in range(4)]
    one = [attacks.gradient(noisy, IMAGES, LABELS, k, 1) for k in keys]
    assert jnp.abs(mean(4)).mean() < jnp.abs(jnp.stack(one)).mean()
    exact = attacks.gradient(linear, IMAGES, LABELS, keys[0], 1)

    def agreement(g):
        return jnp.mean(jnp.sign(g) == jnp.sign(exact))

    assert agreement(mean(1)) < 0.8 < agreement(mean(300))


def test_decisions_alone_come_near_and_never_nearer_than_the_border():
    images, radii = attacks.decisions(
        linear,
        IMAGES,
        LABELS,
        jax.random.key(0),
        epsilon=0.1,
        num_queries=1_500,
        num_starts=1,
    )
    assert (radii >= RADII - 1e-6).all()
    assert (radii < 2 * RADII + 0.02).all()
    fooled = jnp.argmax(linear(images, None), axis=-1) != LABELS
    np.testing.assert_array_equal(fooled, radii <= 0.1)
    np.testing.assert_array_equal(images[~fooled], IMAGES[~fooled])
    assert jnp.abs(images - IMAGES).max() <= 0.1 + 1e-6


def test_a_class_that_never_changes():
    images, radii = attacks.decisions(
        lambda images, key: jnp.eye(2)[LABELS],
        IMAGES,
        LABELS,
        jax.random.key(0),
        epsilon=0.5,
        num_queries=21,
        num_starts=2,
    )
    np.testing.assert_array_equal(images, IMAGES)
    assert jnp.isinf(radii).all()


def test_blocks_cover_each_level_once():
    masks = attacks.blocks(12, 40)
    sizes = [1, 2, 4, 8, 12, 1]
    starts = np.cumsum([0, *sizes])
    for start, count in zip(starts, sizes, strict=False):
        np.testing.assert_array_equal(masks[start : start + count].sum(axis=0), 1)
