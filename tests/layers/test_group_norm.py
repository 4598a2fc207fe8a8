"""Group normalisation against Flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.group_norm import EPSILON, GroupNorm


@pytest.mark.parametrize(("shape", "groups"), [((2, 3, 5, 8), 4), ((3, 6), 1), ((2, 4, 6), 6)])
def test_is_flaxs(shape, groups):
    """And so are its gradients, far from a mean of 0, with any scale and bias."""
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(10, size=shape).astype(np.float32) for _ in range(2))
    channels = shape[-1]
    scale, bias = jnp.asarray(rng.normal(size=(2, channels)))
    theirs = nnx.GroupNorm(
        channels, groups, epsilon=EPSILON, use_fast_variance=False, rngs=nnx.Rngs(0)
    )
    ours = GroupNorm(channels, groups, rngs=nnx.Rngs(0))
    found = []
    for norm in (theirs, ours):
        norm.scale[...], norm.bias[...] = scale, bias
        rng = np.random.default_rng(1)
        graphdef, params = nnx.split(norm)

        @jax.jit
        def gradient(params, x, graphdef=graphdef):
            y, transpose = jax.vjp(lambda params, x: nnx.merge(graphdef, params)(x), params, x)
            return y, transpose(dy)

        found.append(jax.tree.leaves(gradient(params, x)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())


def test_computes_in_float32():
    x = np.random.default_rng(0).normal(10, size=(2, 4, 4, 8)).astype(np.float32)
    norm = GroupNorm(8, 2, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(norm)
    half = nnx.merge(graphdef, jax.tree.map(jnp.bfloat16, params))
    rounded = jnp.asarray(x, jnp.bfloat16)
    y = half(rounded)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, norm(rounded.astype(jnp.float32)).astype(jnp.bfloat16))
