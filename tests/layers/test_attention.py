"""Attention: JAX's own is the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.layers.attention import attend


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_attend_is_dot_product_attention(dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weight = (jax.random.normal(key, (2, 3, 10, 8), dtype) for key in keys)

    def oracle(q, k, v):
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # it takes [B, n, heads, d]
        return jax.nn.dot_product_attention(q, k, v).swapaxes(1, 2)

    def results(attention):
        loss = lambda *inputs: jnp.sum((weight * attention(*inputs)).astype(jnp.float32))  # noqa: E731
        return attention(q, k, v), *jax.grad(loss, (0, 1, 2))(q, k, v)

    for ours, theirs in zip(results(attend), results(oracle), strict=True):
        assert ours.dtype == theirs.dtype == dtype
        ours, theirs = (np.asarray(x, np.float32) for x in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


def test_large_logits_do_not_overflow():
    q = 100 * jnp.ones((1, 1, 4, 4))
    y = attend(q, q, jnp.ones((1, 1, 4, 4)))
    np.testing.assert_allclose(y, 1, atol=1e-6)
