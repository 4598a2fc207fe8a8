"""Slot Attention against tensors of the two reference implementations."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax import losses
from akorn_jax.convert import load_official, to_official
from akorn_jax.convert.slot_attention import dialect
from akorn_jax.data import properties
from akorn_jax.layers.slot_attention import SlotAttention
from akorn_jax.models import set_prediction, slot_attention

FIXTURES = Path(__file__).parents[1] / "fixtures" / "slot_attention"
SIZES = {"in_features": 16, "slot_size": 16, "hidden_size": 32, "num_slots": 5}
LAYERS = {
    "a_sa_mean": {"aggregation": "mean"},
    "a_sa_layer_norm": {"aggregation": "layer_norm"},
    "a_sa_constant": {"aggregation": "constant"},
    "a_sa_batch_norm": {"aggregation": "scalar_batch_norm"},
    "b_more_slots_mean": {"aggregation": "mean"},
    "c_implicit_mean": {"aggregation": "mean", "gradient": "implicit"},
    # One more iteration than configured: the one with a gradient.
    "i_hh_slot_attention": {"gradient": "implicit", "num_iterations": 4},
}
# Zero but for rounding: the softmax over slots cancels a shift of all queries, and of all logits.
ZERO = ("norm_slots.bias", "decoder_cnn.6.bias", "decoder_cnn.10.bias")


def read(name):
    return dict(np.load(FIXTURES / f"{name}.npz"))


def parameters(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def empty(module):
    """The module full of zeros, to be loaded: initial numbers take long to compile."""
    graphdef, state = nnx.split(nnx.eval_shape(module))
    return nnx.merge(graphdef, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state))


def layer_and_tensors(name):
    layer = empty(lambda: SlotAttention(**SIZES, **LAYERS[name], rngs=nnx.Rngs(0)))
    arrays = read(name)
    load_official(layer, parameters(arrays, "param/"))
    call = ast.literal_eval(str(arrays.get("call", "{}")))
    return layer, arrays, call.get("num_iters")


def last(array):
    """Channels last, of `[..., C, h, w]`."""
    return np.moveaxis(array, -3, -1)


def relative(actual, expected):
    return np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12)


def assert_gradients(ours, arrays, suffix="", tolerance=1e-4):
    official = parameters(arrays, f"grad{suffix}/")
    assert official, "the fixture has gradients"
    for name, expected in official.items():
        if not name.endswith(ZERO):
            assert relative(ours[name], expected) < tolerance, name


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, "") for name in LAYERS), ("a_sa_batch_norm", "_eval")]
)
def test_layer(name, suffix):
    layer, arrays, num_iterations = layer_and_tensors(name)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def loss(params, inputs, noise):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        initial = layer.mu[...] + jnp.exp(layer.log_sigma[...]) * noise
        slots, attention = layer(inputs, initial, num_iterations=num_iterations, train=suffix == "")
        return jnp.sum(slots * arrays["in/loss_w"]), (slots, attention, nnx.state(layer))

    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, (slots, attention, after)), (grads, grad_inputs) = value_and_grad(
        params, arrays["in/inputs"], arrays["in/noise"]
    )
    expected = arrays[f"out{suffix}/attention"]
    if name.startswith("i_hh"):
        expected = expected.swapaxes(1, 2)
    np.testing.assert_allclose(slots, arrays[f"out{suffix}/slots"], atol=1e-5)
    np.testing.assert_allclose(attention, expected, atol=1e-5)
    np.testing.assert_allclose(value, arrays[f"out{suffix}/loss"], rtol=1e-4)
    assert relative(grad_inputs, arrays[f"grad_in{suffix}/inputs"]) < 1e-4
    names = dialect(parameters(arrays, "param/"))
    assert_gradients(to_official(nnx.merge(graphdef, grads, rest), names), arrays, suffix)
    after_training = parameters(arrays, "after/") if suffix == "" else {}
    ours = to_official(nnx.merge(graphdef, after), names)
    for key, expected in after_training.items():
        np.testing.assert_allclose(ours[key], expected, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_return_unchanged(name):
    layer, arrays, _ = layer_and_tensors(name)
    official = parameters(arrays, "param/")
    returned = to_official(layer, dialect(official))
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)


@pytest.mark.parametrize("name", ["a_sa_mean"])
def test_pytorch_gru(name):
    """The same weights in the order of PyTorch's GRUCell give the same layer."""
    layer, arrays, _ = layer_and_tensors(name)
    official = parameters(arrays, "param/")
    kernels = {"weight_ih": official.pop("gru.kernel").T}
    kernels["weight_hh"] = official.pop("gru.recurrent_kernel").T
    kernels["bias_ih"], kernels["bias_hh"] = official.pop("gru.bias")
    for key, array in kernels.items():
        z, r, n = np.split(array, 3)
        official[f"gru.{key}"] = np.concatenate([r, z, n])
    torch_layer = empty(lambda: SlotAttention(**SIZES, rngs=nnx.Rngs(0)))
    load_official(torch_layer, official)
    inputs, initial = arrays["in/inputs"], arrays["in/slots_init"]
    graphdef, state = nnx.split(layer)
    forward = jax.jit(lambda state: nnx.merge(graphdef, state)(inputs, initial)[0])
    np.testing.assert_array_equal(forward(nnx.state(torch_layer)), forward(state))
    assert to_official(torch_layer, "torch_gru").keys() == official.keys()


def autoencoder(name):
    arrays = read(name)
    config = ast.literal_eval(str(arrays["config"]))
    model = empty(
        lambda: slot_attention.Model(
            image_size=config["im_size"],
            num_slots=config["num_slots"],
            channels=config["cnn_feature_dim"],
            slot_size=config["slot_dim"],
            decoder=config["deconv_architecture"],
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, parameters(arrays, "param/"))
    return model, arrays


@pytest.mark.parametrize("name", ["d_ae_stationary", "d_ae_expanding_128"])
def test_autoencoder(name):
    model, arrays = autoencoder(name)
    image = (last(arrays["in/image"]) + 1) / 2
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        model = nnx.merge(graphdef, params, rest)
        attention = model.slot_attention
        slots = attention.mu[...] + jnp.exp(attention.log_sigma[...]) * arrays["in/noise"]
        output = model(image, slots=slots, train=True)
        return jnp.mean((2 * (output.recon - image)) ** 2), output

    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    (value, output), grads = jax.jit(value_and_grad)(params)
    stride = int(arrays["sub"])
    masks = arrays["out/masks"][:, :, 0]
    np.testing.assert_allclose(2 * output.recon - 1, last(arrays["out/reconstruction"]), atol=2e-5)
    np.testing.assert_allclose(output.masks[..., ::stride, ::stride], masks, atol=2e-5)
    np.testing.assert_allclose(output.slots, arrays["out/slots"], atol=2e-5)
    np.testing.assert_allclose(value, arrays["out/loss"], rtol=1e-5)
    assert_gradients(to_official(nnx.merge(graphdef, grads, rest)), arrays)
    returned, official = to_official(model), parameters(arrays, "param/")
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)


@pytest.mark.parametrize("name", ["f_setpred_128"])
def test_set_prediction(name):
    arrays = read(name)
    model = empty(
        lambda: set_prediction.Model(
            image_size=arrays["in/image"].shape[-1],
            num_slots=arrays["in/noise"].shape[1],
            channels=16,
            slot_size=16,
            hidden_size=32,
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, parameters(arrays, "param/"))
    raw = parameters(arrays, "raw/")
    raw |= dict(zip("xyz", np.moveaxis(raw.pop("position"), -1, 0), strict=True))
    target = properties.encode(raw, box="tight")
    np.testing.assert_allclose(target, arrays["in/target"], atol=1e-6)
    image = (last(arrays["in/image"]) + 1) / 2
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        model = nnx.merge(graphdef, params, rest)
        attention = model.slot_attention
        slots = attention.mu[...] + jnp.exp(attention.log_sigma[...]) * arrays["in/noise"]
        output = model(image, slots=slots, train=True)
        cost = losses.pairwise_huber(output.logits, target)
        pairs = losses.least_cost_pairs(cost)
        return pairs.mean(), (output, cost, pairs)

    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (output, cost, pairs)), grads = value_and_grad(params)
    np.testing.assert_allclose(output.logits, arrays["out/predicted_properties"], atol=1e-5)
    np.testing.assert_allclose(output.slots, arrays["out/slots"], atol=1e-5)
    np.testing.assert_allclose(cost, arrays["out/cost"], atol=1e-6)
    np.testing.assert_allclose(np.sort(pairs), np.sort(arrays["out/matched_cost"]), atol=1e-6)
    np.testing.assert_allclose(value, arrays["out/loss"], rtol=1e-5)
    np.testing.assert_allclose(pairs.sum(1).mean(), arrays["out/loss_tf_style"], rtol=1e-5)
    assert_gradients(to_official(nnx.merge(graphdef, grads, rest)), arrays)
