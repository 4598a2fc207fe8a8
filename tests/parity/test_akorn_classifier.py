"""AKOrN for recognition against tensors of the official implementation.

They were computed in float64, and so are ours here: where two numbers are normalised that happen to
be close to zero, the gradient multiplies what rounding has done to them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.errors import UserError
from akorn_jax.layers.noise import Noise
from akorn_jax.models.akorn_classifier import Model
from tests.parity.tensors import empty, filled
from tests.parity.test_akorn import FIXTURES, last, parameters, relative

CASES = {
    "m_classifier_eval": {"channels": 8},
    "m_classifier_train": {
        "channels": 8, "num_layers": 2, "num_steps": (2, 3), "kernel_size": (5, 3),
        "oscillator_dim": 4, "readout_dim": (3, 2), "num_classes": 7, "init_omega": 0.5,
        "global_omega": False, "gamma": 0.7,
    },
    "m_classifier_ensemble": {
        "channels": 8, "num_layers": 2, "num_steps": 2, "connectivity": "attn", "norm": "gn",
        "stimulus_norm": "sandb", "use_omega": False, "kernel_size": 3, "ensemble": 3,
    },
}  # fmt: skip
TRAIN = "m_classifier_train"


class Replayed(Noise):
    """The official run's draws, one after another."""

    def __init__(self, draws):
        self._draws = iter(draws)

    def normal(self, shape):
        draw = jnp.asarray(next(self._draws))
        assert draw.shape == shape
        return draw


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(name, official tensors, our output, gradients of parameters and image, buffers after)."""
    name = request.param
    arrays = dict(np.load(FIXTURES / f"{name}.npz"))
    model = loaded(name, arrays)
    x0 = last(arrays["in/x0"])
    draws = x0 if x0.ndim == 5 else x0[None]
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, rest, image, draws):
        called = nnx.merge(graphdef, params, rest, copy=True)
        output = called(
            last(image), key=Replayed(draws), train=name == TRAIN, trajectory=len(draws) == 1
        )
        after = nnx.state(called, nnx.Not(nnx.Param))
        return jnp.sum(output.logits * arrays["in/loss_w"]), (output, after)

    with jax.enable_x64(True):
        inputs = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (params, rest, arrays["in/image"], draws)
        )
        grad = jax.jit(jax.grad(loss, argnums=(0, 2), has_aux=True))
        (grads, grad_image), (output, after) = grad(*inputs)
    grads, after = (to_official(nnx.merge(graphdef, *s)) for s in ((grads, rest), (params, after)))
    return name, arrays, output, grads, grad_image, after


def loaded(name, arrays):
    model = empty(lambda: Model(**CASES[name], rngs=nnx.Rngs(0)))
    load_official(model, parameters(arrays, "param/"))
    return model


def test_forward(case):
    _, arrays, output, *_ = case
    np.testing.assert_allclose(output.logits, arrays["out/logits"], rtol=1e-5, atol=1e-6)


def test_forward_in_float32():
    arrays = dict(np.load(FIXTURES / "m_classifier_eval.npz"))
    model = loaded("m_classifier_eval", arrays)
    call = jax.jit(lambda image, x0: model(image, x0=x0).logits)
    np.testing.assert_allclose(
        call(last(arrays["in/image"]), last(arrays["in/x0"])), arrays["out/logits"], atol=1e-5
    )


def test_trajectory(case):
    name, arrays, output, *_ = case
    if output.trajectory is None:
        assert name == "m_classifier_ensemble"
        return
    for l, energy in enumerate(output.trajectory["energies"]):
        np.testing.assert_allclose(energy, arrays[f"energy/layer{l}"], rtol=1e-5, atol=1e-5)
        if name != TRAIN:
            x = output.trajectory["oscillators"][l][-1]
            np.testing.assert_allclose(x, last(arrays[f"xs/layer{l}"])[-1], atol=1e-6)


def test_gradients(case):
    _, arrays, _, grads, grad_image, _ = case
    official = parameters(arrays, "grad/")
    assert len(official) > 20
    for parameter, expected in official.items():
        # A bias before a batch norm has no gradient but that of rounding.
        error = np.abs(grads[parameter] - expected).max()
        assert error < 1e-5 * max(np.abs(expected).max(), 1e-3), parameter
    assert relative(grad_image, arrays["grad_in/image"]) < 1e-5


def test_running_statistics(case):
    name, arrays, _, _, _, after = case
    changed = parameters(arrays, "after/")
    assert bool(changed) == (name == TRAIN)
    for key, expected in changed.items():
        if "running" in key:
            assert not np.array_equal(expected, arrays[f"param/{key}"])
            np.testing.assert_allclose(after[key], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_weights_return_unchanged(name):
    arrays = dict(np.load(FIXTURES / f"{name}.npz"))
    official, returned = parameters(arrays, "param/"), to_official(loaded(name, arrays))
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)
        assert returned[key].dtype == array.dtype


def test_two_names_of_one_convolution_must_agree():
    model = empty(lambda: Model(channels=8, num_layers=2, kernel_size=3, rngs=nnx.Rngs(0)))
    weights = to_official(model)
    weights["layers.1.0.1.bias"] = weights["layers.1.0.1.bias"] + 1
    with pytest.raises(UserError, match=r"layers\.1\.0\.1\.bias differs from layers\.1\.0\.0\.b"):
        load_official(model, weights)


def test_options_of_the_call():
    """T and the ensemble: of one start, two starts, and what is refused."""
    make = {"channels": 8, "num_layers": 1, "kernel_size": 3, "num_steps": 1}
    model = filled(lambda: Model(**make, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    images = rng.random((2, 8, 8, 3), np.float32)
    x0 = rng.standard_normal((3, 2, 8, 8, 8), np.float32)
    call = jax.jit(
        lambda x0, ensemble, num_steps: (
            model(images, x0=x0, ensemble=ensemble, num_steps=num_steps).logits
        ),
        static_argnums=(1, 2),
    )
    both = call(x0, 3, 1)
    each = np.stack([call(x, None, 1) for x in x0])
    np.testing.assert_allclose(both, each.mean(axis=0), atol=1e-5)
    assert np.abs(call(x0[0], None, 4) - each[0]).max() > 1e-3
    with pytest.raises(ValueError, match="ensemble=0"):
        model(images, x0=x0[0], ensemble=0)
    with pytest.raises(ValueError, match="random oscillators"):
        model(images)
