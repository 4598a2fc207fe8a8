"""Pooling: what it gives, and that the gradient finds one position."""

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.layers.head import average_pool, max_pool


def test_pools_are_the_largest_and_the_mean():
    features = jax.random.normal(jax.random.key(0), (3, 4, 5, 6))
    np.testing.assert_array_equal(max_pool(features), features.max((1, 2)))
    np.testing.assert_allclose(average_pool(features), features.mean((1, 2)), rtol=1e-6)


def test_the_gradient_goes_to_the_first_of_equals():
    features = jnp.zeros((1, 2, 2, 3)).at[0, 1, 0].set(1.0).at[0, 1, 1].set(1.0)
    gradient = jax.grad(lambda f: jnp.sum(max_pool(f) * jnp.arange(1.0, 4.0)))(features)
    expected = np.zeros((1, 2, 2, 3))
    expected[0, 1, 0] = [1, 2, 3]
    np.testing.assert_array_equal(gradient, expected)
