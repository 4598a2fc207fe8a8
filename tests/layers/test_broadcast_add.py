"""Adding one map to many, against broadcasting."""

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.layers.broadcast_add import add_to_each


def test_is_broadcasting_and_so_are_its_derivatives():
    """The second ones too, as a model has them that differentiates inside its loss."""
    rng = np.random.default_rng(0)
    many = jnp.asarray(rng.normal(size=(5, 2, 3)), jnp.float32)
    one = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)

    def derivatives(add):
        def value(many, one):
            return jnp.sum(jnp.sin(add(many, one)))

        def slope(many, one):
            return sum(jnp.sum(d**2) for d in jax.grad(value, (0, 1))(many, one))

        return add(many, one), *(jax.grad(f, (0, 1))(many, one) for f in (value, slope))

    ours, theirs = derivatives(add_to_each), derivatives(jnp.add)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
