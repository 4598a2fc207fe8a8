"""ELU with a gradient from its output, against JAX's."""

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.layers.elu import elu


def test_is_jaxs_and_so_are_its_derivatives():
    x = jnp.array([-200.0, -3.0, -1e-3, 0.0, 1e-3, 2.0])
    np.testing.assert_allclose(elu(x), jax.nn.elu(x), 1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(elu))(x), jax.vmap(jax.grad(jax.nn.elu))(x), 3e-6)
    half = elu(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), elu(x), 1e-2)


def test_the_backward_pass_keeps_one_array():
    """Of a product behind it, whose operand it is."""

    def f(x, w):
        return jnp.sum(elu(x) @ w)

    x, w = jnp.ones((50, 50)), jnp.ones((50, 1))
    residuals = jax.tree.leaves(jax.vjp(f, x, w)[1])
    assert sum(r.size >= x.size for r in residuals) == 1
