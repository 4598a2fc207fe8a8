"""The ResNet-18 classifier against torchvision's, with the stem of small images, 4 to 32 wide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models.resnet_classifier import Model
from tests.parity.tensors import empty
from tests.parity.test_akorn import FIXTURES, last, parameters, relative


@pytest.fixture(scope="module")
def official():
    arrays = dict(np.load(FIXTURES / "m_resnet18_cifar.npz"))
    model = empty(lambda: Model(channels=4, num_classes=5, rngs=nnx.Rngs(0)))
    load_official(model, parameters(arrays, "param/"))
    return model, arrays


def test_forward_and_gradients(official):
    model, arrays = official
    image = last(arrays["in/image"])
    logits = jax.jit(lambda image: model(image).logits)(image)
    np.testing.assert_allclose(logits, arrays["out/logits_eval"], atol=1e-5)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, image):
        model = nnx.merge(graphdef, params, rest, copy=True)
        logits = model(image, train=True).logits
        return jnp.sum(logits * arrays["in/loss_w"]), logits

    (grads, grad_image), logits = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
        params, image
    )
    np.testing.assert_allclose(logits, arrays["out/logits_train"], atol=1e-4)
    assert relative(grad_image, last(arrays["grad_in/image"])) < 1e-3
    ours = to_official(nnx.merge(graphdef, grads, rest))
    for name, expected in parameters(arrays, "grad/").items():
        assert relative(ours[name], expected) < 1e-3, name


def test_weights_return_unchanged(official):
    model, arrays = official
    expected, returned = parameters(arrays, "param/"), to_official(model)
    assert returned.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(returned[name], array)
