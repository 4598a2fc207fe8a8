"""Pieces that the models with boxes share, against tensors of the reference implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logit

from akorn_jax.layers import spatial_transformer
from akorn_jax.layers.distributions import bernoulli_kl, relaxed_bernoulli
from tests.parity.tensors import Recorded, files, last, on_host, read, relative

EPS = {"gnm": 1e-15, "space": 1e-9, "spair": 0.0}
PRIORS = {"gnm": (0.1, 0.001), "space": (0.01,)}


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


@pytest.mark.parametrize("model", EPS)
def test_extract(arrays, model):
    image, where = last(arrays["in/image"]), arrays["in/z_where"]
    weights = last(arrays["in/w_extract"])
    glimpses, grad_image, grad_where = value_and_gradients(
        lambda image, where: spatial_transformer.extract(image, where, weights.shape[1:3]),
        weights,
        image,
        where,
    )
    assert relative(glimpses, last(arrays[f"{model}/extract"])) < 1e-5
    assert relative(grad_image, last(arrays[f"{model}/extract_grad_image"])) < 1e-5
    assert relative(grad_where, arrays[f"{model}/extract_grad_z_where"]) < 1e-5


@pytest.mark.parametrize("model", EPS)
def test_place(arrays, model):
    glimpse, where = last(arrays["in/glimpse"]), arrays["in/z_where"]
    weights = last(arrays["in/w_place"])
    canvas, grad_glimpse, grad_where = value_and_gradients(
        lambda glimpse, where: spatial_transformer.place(
            glimpse, where, weights.shape[1:3], eps=EPS[model]
        ),
        weights,
        glimpse,
        where,
    )
    assert relative(canvas, last(arrays[f"{model}/place"])) < 1e-5
    assert relative(grad_glimpse, last(arrays[f"{model}/place_grad_glimpse"])) < 1e-5
    assert relative(grad_where, arrays[f"{model}/place_grad_z_where"]) < 1e-4


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_upright_affine_maps(arrays, padding):
    """Of the general affine maps those without rotation or shear."""
    theta = arrays["in/theta"]
    upright = (theta[:, 0, 1] == 0) & (theta[:, 1, 0] == 0)
    assert upright.any()
    theta, image = theta[upright], last(arrays["in/image"])[: len(upright)][upright]
    expected = last(arrays[f"affine/{padding}_ac0"])[upright]
    height, width = expected.shape[1:3]
    y = theta[:, 1, 1:2] * spatial_transformer.pixel_centers(height) + theta[:, 1, 2:]
    x = theta[:, 0, :1] * spatial_transformer.pixel_centers(width) + theta[:, 0, 2:]
    sampled = spatial_transformer.resample(image, y, x, padding=padding)
    assert relative(sampled, expected) < 1e-5


@pytest.mark.parametrize(("model", "prior"), [(m, p) for m, ps in PRIORS.items() for p in ps])
def test_bernoulli_kl(arrays, model, prior):
    kl, grad = value_and_gradients(
        lambda logits: bernoulli_kl(logits, logit(prior)), 1.0, arrays["in/pres_logits"]
    )
    expected = f"{model}/kl_bern_p{prior}"
    np.testing.assert_allclose(kl, arrays[expected], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(grad, arrays[f"{expected}_grad_logit"], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.5])
def test_relaxed_bernoulli(arrays, temperature):
    u = arrays["in/uniform"]
    assert u.min() == 0
    assert u.max() == 1
    sample, grad = value_and_gradients(
        lambda logits: relaxed_bernoulli(logits, temperature, Recorded([u])),
        1.0,
        arrays["in/pres_logits"],
    )
    expected = f"relaxed_bernoulli/tau{temperature}"
    np.testing.assert_allclose(sample, arrays[expected], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grad, arrays[f"{expected}_grad_logit"], rtol=1e-4, atol=1e-6)
