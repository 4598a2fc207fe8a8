"""A convolution in the Fourier domain is the convolution, and so are its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers import convolution
from akorn_jax.layers.convolution import GridConv, fourier_conv, transposed_conv


def normal(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def direct(x, kernel):
    reach = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(reach, reach)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("grid", "k"), [((8, 8), 5), ((5, 6), 3), ((3, 4), 7), ((4, 7), 1)])
def test_the_fourier_domain_changes_nothing(grid, k):
    x, kernel, weight = normal((2, *grid, 6), (k, k, 6, 4), (2, *grid, 4))

    def results(convolve):
        def loss(x, kernel):
            y = convolve(x, kernel)
            return jnp.sum(weight * y), y

        return jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel))

    for ours, theirs in zip(results(fourier_conv), results(direct), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


def test_what_a_module_computes_does_not_depend_on_the_way(monkeypatch):
    layer = GridConv(4, 4, 3, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    fourier = layer(x)
    monkeypatch.setattr(convolution, "MAX_FOURIER_TOKENS", 35)
    monkeypatch.setattr(convolution, "fourier_conv", None)  # so that it cannot be taken
    np.testing.assert_allclose(layer(x), fourier, atol=1e-5)
    np.testing.assert_allclose(fourier, direct(x, layer.kernel[...]) + layer.bias[...], atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolution_is_that_of_inputs_moved_apart(k, stride):
    """On the CPU, where the zeros between inputs are left out; the gradients too."""
    x, kernel, weight = normal((2, 4, 3, 5), (k, k, 5, 6), (2, 4 * stride, 3 * stride, 6))

    def apart(x, kernel):
        moved = jnp.zeros((2, 4 * stride, 3 * stride, 5)).at[:, ::stride, ::stride].set(x)
        return direct(moved, kernel)

    def results(convolve):
        def loss(x, kernel):
            y = convolve(x, kernel)
            return jnp.sum(weight * y), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel)

    ours = results(lambda x, kernel: transposed_conv(x, kernel, stride))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(results(apart)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
