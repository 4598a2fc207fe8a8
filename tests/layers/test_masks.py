"""Masks that share out pixels: shares sum to 1, and divergences are those of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from akorn_jax.layers.masks import bounded_masks, break_stick, mask_kl

KEY = jax.random.key(0)


def test_sticks_share_out_every_pixel():
    logits = 40 * jax.random.normal(KEY, (6, 2, 5, 5))
    log_scope, masks = jnp.zeros((2, 5, 5)), []
    for l in logits:
        before = log_scope
        log_mask, log_scope = break_stick(log_scope, jax.nn.log_sigmoid(l), jax.nn.log_sigmoid(-l))
        np.testing.assert_allclose(jnp.logaddexp(log_mask, log_scope), before, rtol=1e-5, atol=1e-5)
        masks.append(log_mask)
    assert jnp.min(log_scope) < -100, "shares that a float32 cannot hold stay apart in log space"
    assert jnp.isfinite(jnp.stack(masks)).all()


def test_divergence_is_that_of_scipy_and_zero_for_equal_masks():
    log_q, log_p = jax.nn.log_softmax(jax.random.normal(KEY, (2, 3, 4, 5, 5)), axis=2)
    expected = scipy.stats.entropy(jnp.exp(log_q), jnp.exp(log_p), axis=1)
    np.testing.assert_allclose(mask_kl(log_q, log_p), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(mask_kl(log_q, log_q), 0)


def test_an_empty_mask_adds_nothing_to_the_divergence():
    log_q = jnp.log(jnp.array([0.0, 0.25, 0.75]) + jnp.exp(-200.0)).reshape(1, 3, 1, 1)
    log_q = log_q.at[0, 0].set(-200.0)
    log_p = jnp.log(jnp.array([0.5, 0.25, 0.25])).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(mask_kl(log_q, log_p), 0.75 * np.log(3), rtol=1e-6)
    slope = jax.grad(lambda log_q: mask_kl(log_q, log_p).sum())(log_q)
    assert jnp.isfinite(slope).all()


def test_bounded_masks_are_raised_and_sum_to_one():
    masks = jnp.array([0.0, 1e-9, 1 - 1e-9]).reshape(1, 3, 1, 1)
    bounded = jnp.exp(bounded_masks(jnp.log(masks), 1e-2))
    np.testing.assert_allclose(bounded[0, :, 0, 0], np.array([0.01, 0.01, 1]) / 1.02, rtol=1e-5)
