"""The convolution and its gradients against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers import tap_convolution
from akorn_jax.layers.tap_convolution import TapConv, convolve


def xla(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize(
    ("k", "stride", "padding"), [(3, 1, 0), (3, 2, 1), (1, 1, 0), (5, 1, 2), (2, 3, 0)]
)
def test_is_xlas_convolution(k, stride, padding):
    """And so are its gradients, inside a loop; h and w are no multiples of the stride."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(k, k, 3, 4)).astype(np.float32)

    def loss(convolution):
        def total(x, kernel):
            def body(total, scale):
                y = convolution(scale * x, kernel, stride, padding)
                return total + jnp.sum(jnp.sin(y)), y

            return jax.lax.scan(body, 0.0, jnp.array([1.0, 0.3]))

        return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))

    ours = loss(lambda x, kernel, s, p: convolve(x, kernel, stride=s, padding=p))(x, kernel)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(loss(xla)(x, kernel)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize(("k", "padding", "channels"), [(5, 2, (32, 40)), (3, 0, (64, 4))])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_gradient_by_rows(k, padding, channels, rows, monkeypatch):
    """Of wide kernels, whose products are of some rows of all images at a time."""
    C, D = channels
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 8, C)).astype(np.float32)
    kernel = rng.normal(size=(k, k, C, D)).astype(np.float32)
    width = x.shape[2] + 2 * padding - k + 1
    monkeypatch.setattr(tap_convolution, "_OPERAND", rows * width * k * max(C, D))
    assert k * C >= tap_convolution._WIDE

    def gradient(convolution):
        return jax.jit(jax.grad(lambda kernel: jnp.sum(jnp.sin(convolution(x, kernel)))))(kernel)

    ours = gradient(lambda x, kernel: convolve(x, kernel, padding=padding))
    theirs = gradient(lambda x, kernel: xla(x, kernel, 1, padding))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_module_is_flaxs():
    init = nnx.initializers.normal()
    ours = TapConv(3, 4, 3, stride=2, padding=1, kernel_init=init, bias_init=init, rngs=nnx.Rngs(0))
    theirs = nnx.Conv(
        3, 4, (3, 3), strides=2, padding=1, kernel_init=init, bias_init=init, rngs=nnx.Rngs(0)
    )
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(ours.kernel[...], theirs.kernel[...])
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-6)


def test_computes_in_the_type_of_the_weights():
    init = nnx.initializers.normal()
    layer = TapConv(3, 4, 3, kernel_init=init, bias_init=init, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)
    half = nnx.merge(graphdef, jax.tree.map(jnp.bfloat16, state))
    assert half(jnp.ones((1, 4, 4, 3))).dtype == jnp.bfloat16
