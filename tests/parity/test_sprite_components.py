"""Pieces of DTI-Sprites and MarioNette against tensors of the reference implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.grid_sample import affine_points, grid_sample
from akorn_jax.layers.partial_convolution import PartialConv, tap_ratio
from akorn_jax.layers.transformations import color, position, projective, soft_clamp
from akorn_jax.models import marionette
from akorn_jax.tasks.sprite_clustering import reassignment
from tests.parity.tensors import empty, files, last, on_host, read, relative

TOLERANCE = 2e-5


def first(array):
    """Channels first, of `[..., h, w, C]`."""
    return np.moveaxis(array, -1, -3)


@pytest.fixture(scope="module")
def arrays():
    (path,) = files("components", "components.npz")
    return read(path)


def value_and_gradients(function, weights, *arguments):
    """The function's value, and the gradients of sum(value * weights) in all its arguments."""

    def loss(*arguments):
        value = function(*arguments)
        return jnp.sum(value * weights), value

    argnums = tuple(range(len(arguments)))
    grads, value = on_host(jax.grad(loss, argnums, has_aux=True))(*arguments)
    return value, *grads


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_affine_warps(arrays, padding):
    theta = arrays["in/theta"]
    image = last(arrays["in/image"][: len(theta)])
    expected = arrays[f"affine/{padding}_ac0"]
    points = affine_points(theta, expected.shape[-2:])
    assert relative(first(grid_sample(image, points, padding=padding)), expected) < TOLERANCE


@pytest.mark.parametrize("kind", ["color", "position", "projective"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_transformations(arrays, kind, padding):
    x, beta = last(arrays["in/dti_x"]), arrays[f"in/dti_{kind}_beta"]
    weights = last(arrays[f"in/dti_{kind}_w"])
    transform = {
        "color": color,
        "position": lambda x, beta: position(x, beta, weights.shape[1:3], padding),
        "projective": lambda x, beta: projective(x, beta, padding),
    }[kind]
    case = f"dti/{kind}_{'none' if kind == 'color' else padding}"
    value, grad_x, grad_beta = value_and_gradients(transform, weights, x, beta)
    assert relative(first(value), arrays[case]) < TOLERANCE
    assert relative(first(grad_x), arrays[f"{case}_grad_x"]) < TOLERANCE
    assert relative(grad_beta, arrays[f"{case}_grad_beta"]) < TOLERANCE


def test_soft_clamp(arrays):
    x = arrays["in/soft_clamp"]
    value, grad = value_and_gradients(soft_clamp, np.ones_like(x), x)
    np.testing.assert_allclose(value, arrays["dti/soft_clamp"], atol=1e-7)
    np.testing.assert_allclose(grad, arrays["dti/soft_clamp_grad"], atol=1e-7)


def test_reassignment(arrays):
    """The fixture's usages are of ten sprites and the empty one."""
    for usage, reassigned, origin in zip(
        arrays["in/dti_proportions"],
        arrays["dti/reassigned"],
        arrays["dti/reassign_source"],
        strict=True,
    ):
        S = len(usage) - 1
        source, changed = reassignment(jnp.asarray(usage[:S]), 0.2 / S)
        expected = np.where(reassigned, origin, np.arange(S))
        np.testing.assert_array_equal(source, expected)
        noisy = reassigned | (reassigned.any() & (np.arange(S) == origin))
        np.testing.assert_array_equal(changed, noisy)


def test_shifted_patches(arrays):
    patch, shift, weights = last(arrays["in/mn_patch"]), arrays["in/mn_shift"], arrays["in/mn_w"]
    value, grad_patch, grad_shift = value_and_gradients(
        marionette.shifted, last(weights), patch, shift
    )
    assert relative(first(value), arrays["mn/warp"]) < TOLERANCE
    assert relative(first(grad_patch), arrays["mn/warp_grad_patch"]) < TOLERANCE
    assert relative(grad_shift, arrays["mn/warp_grad_shift"]) < TOLERANCE


@pytest.mark.parametrize("stride", [1, 2])
def test_partial_convolution(arrays, stride):
    case = f"mn/partialconv_s{stride}"
    image, weight = last(arrays["in/image"][: len(arrays[case])]), arrays[f"{case}_weight"]
    conv = empty(lambda: PartialConv(3, len(weight), stride=stride, rngs=nnx.Rngs(0)))
    conv.kernel[...] = weight.transpose(2, 3, 1, 0)
    conv.bias[...] = arrays[f"{case}_bias"]
    assert relative(first(conv(image)), arrays[case]) < TOLERANCE
    ratio = arrays[f"{case}_ratio"][0, 0]
    np.testing.assert_allclose(tap_ratio(*image.shape[1:3], stride)[..., 0], ratio, rtol=1e-6)
