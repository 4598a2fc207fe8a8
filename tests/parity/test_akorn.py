"""AKOrN and ItrSA against tensors of the official implementation."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models import akorn, itrsa
from tests.parity.tensors import empty

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = {"channels": 32, "num_steps": 4, "patch_size": 4, "image_size": 32, "heads": 4}
CASES = {
    "a_akorn_attn_gta": lambda: akorn.Model(**SMALL, rngs=nnx.Rngs(0)),
    "b_akorn_attn_gta_L2_gn_omega": lambda: akorn.Model(
        **SMALL,
        num_layers=2,
        stimulus_norm="gn",
        use_omega=True,
        global_omega=False,
        init_omega=0.5,
        rngs=nnx.Rngs(0),
    ),
    "c_akorn_conv_k5": lambda: akorn.Model(
        **SMALL, connectivity="conv", kernel_size=5, rngs=nnx.Rngs(0)
    ),
    "e_itrsa_posenc": lambda: itrsa.Model(**SMALL, mlp_dim=64, rngs=nnx.Rngs(0)),
    "f_itrsa_gta": lambda: itrsa.Model(**SMALL, mlp_dim=64, gta=True, rngs=nnx.Rngs(0)),
}
OSCILLATORY = [name for name in CASES if "akorn" in name]


@functools.cache
def fixture(name):
    """The model with the official weights, and the official tensors, channels last."""
    arrays = dict(np.load(FIXTURES / f"{name}.npz"))
    model = empty(CASES[name])
    load_official(model, parameters(arrays, "param/"))
    return model, arrays


def parameters(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def last(array):
    """Channels last, of `[..., C, h, w]`."""
    return np.moveaxis(array, -3, -1)


def call(model, arrays, image, **kwargs):
    if "in/x0" in arrays:
        kwargs["x0"] = last(arrays["in/x0"])
    return model(jnp.moveaxis(image, -3, -1), **kwargs)


@functools.cache
def results(name):
    """The output, and the gradients of parameters, as a module, and of the image."""
    model, arrays = fixture(name)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, image):
        output = call(nnx.merge(graphdef, params, rest), arrays, image)
        return jnp.sum(output.embedding * arrays["in/loss_w"]), output

    grad = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (grads, grad_image), output = grad(params, arrays["in/image"])
    return output, nnx.merge(graphdef, grads, rest), grad_image


def trajectory_of(name):
    model, arrays = fixture(name)
    graphdef, state = nnx.split(model)

    def trajectory(state, image):
        return call(nnx.merge(graphdef, state), arrays, image, trajectory=True).trajectory

    return arrays, jax.jit(trajectory)(state, arrays["in/image"])


def relative(actual, expected):
    return np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_forward(name):
    _, arrays = fixture(name)
    output, *_ = results(name)
    features = arrays["out/c"] if "out/c" in arrays else arrays["out/hook"]
    np.testing.assert_allclose(output.features, last(features), atol=1e-5)
    np.testing.assert_allclose(output.embedding, arrays["out/head"], atol=1e-5)


@pytest.mark.parametrize("name", OSCILLATORY)
def test_trajectory(name):
    arrays, trajectory = trajectory_of(name)
    for l, (x, energy) in enumerate(
        zip(trajectory["oscillators"], trajectory["energies"], strict=True)
    ):
        np.testing.assert_allclose(x, last(arrays[f"xs/layer{l}"]), atol=1e-5)
        expected = arrays[f"energy/layer{l}"]  # a sum of thousands of terms, some near zero
        np.testing.assert_allclose(energy, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["e_itrsa_posenc", "f_itrsa_gta"])
def test_token_trajectory(name):
    arrays, trajectory = trajectory_of(name)
    (tokens,) = trajectory["tokens"]
    np.testing.assert_allclose(tokens, last(arrays["xs/layer0"]), atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    _, arrays = fixture(name)
    _, grads, grad_image = results(name)
    # The layouts are permutations, so gradients travel through them as the weights do.
    ours = to_official(grads)
    official = parameters(arrays, "grad/")
    assert official, "the fixture has gradients"
    for parameter, expected in official.items():
        if parameter != "gamma":  # not trained
            assert relative(ours[parameter], expected) < 1e-4, parameter
    if "grad_in/image" in arrays:
        assert relative(grad_image, arrays["grad_in/image"]) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_weights_return_unchanged(name):
    model, arrays = fixture(name)
    official = parameters(arrays, "param/")
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)
