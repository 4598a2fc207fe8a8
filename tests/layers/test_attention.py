"""Attention: JAX's own is the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.layers.attention import attend


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_attend_is_dot_product_attention(dtype, tolerance):
    numbers = np.random.default_rng(0).standard_normal((4, 2, 3, 10, 8), np.float32)
    q, k, v, weight = numbers.astype(jnp.dtype(dtype))

    def oracle(q, k, v):
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # it takes [B, n, heads, d]
        return jax.nn.dot_product_attention(q, k, v).swapaxes(1, 2)

    def results(attention):
        def loss(*inputs):
            y = attention(*inputs)
            return jnp.sum((weight * y).astype(jnp.float32)), y

        return jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(q, k, v))

    for ours, theirs in zip(results(attend), results(oracle), strict=True):
        assert ours.dtype == theirs.dtype == dtype
        ours, theirs = (np.asarray(x, np.float32) for x in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


def test_large_logits_do_not_overflow():
    q = 100 * jnp.ones((1, 1, 4, 4))
    y = attend(q, q, jnp.ones((1, 1, 4, 4)))
    np.testing.assert_allclose(y, 1, atol=1e-6)
