"""GECO's two forms against the published implementations, and what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.tasks import geco
from tests.parity.tensors import FIXTURES, below, literal, read

GOAL = {"goal": 100.0, "step_size": 0.01}


def run(multiplier, errors, state=None, first_step=0):
    """Weights before each update and states after it, each value `[T]`."""

    def body(state, inputs):
        step, error = inputs
        weight = multiplier.weight(state, step)
        state = multiplier.update(state, error, step)
        return state, (weight, state)

    steps = first_step + jnp.arange(len(errors))
    initial = multiplier.init() if state is None else state
    return jax.jit(lambda: jax.lax.scan(body, initial, (steps, jnp.float32(errors)))[1])()


@pytest.mark.parametrize("case", ["geco", "geco_fast"])
def test_exponential_form_is_the_published_one(case):
    arrays = read(FIXTURES / "genesis_v2" / "genesis_v2_parts.npz")
    settings = literal(arrays[f"{case}/args"])
    settings["decay"] = settings.pop("alpha")
    err, kld = arrays["geco_in/err"], arrays["geco_in/kld"]
    weight, state = run(geco.make("exponential", **settings), err)
    # The exponent amplifies rounding in the moving average.
    rtol = 1e-4 if case == "geco_fast" else 1e-6
    np.testing.assert_allclose(weight, arrays[f"{case}/beta_before"], rtol=rtol)
    np.testing.assert_allclose(state["beta"], arrays[f"{case}/beta_after"], rtol=rtol)
    ema = settings["goal"] - state["constraint"]
    np.testing.assert_allclose(ema, arrays[f"{case}/err_ema"], rtol=1e-6)
    np.testing.assert_allclose(err + weight * kld, arrays[f"{case}/loss"], rtol=rtol)


def test_exponential_form_in_two_calls_of_the_published_model():
    arrays = read(FIXTURES / "genesis_v2" / "genesis_v2.npz")
    buffers = below(arrays, "param/geco.")
    names = ("goal", "step_size", "speedup", "beta_min", "beta_max", "beta")
    settings = {name: float(buffers[name]) for name in names}
    multiplier = geco.make("exponential", decay=float(buffers["alpha"]), **settings)
    outs = [below(arrays, "out/"), below(arrays, "out_second/")]
    weight, state = run(multiplier, [out["rec_loss"] for out in outs])
    for i, out in enumerate(outs):
        np.testing.assert_allclose(weight[i], out["beta_before"], rtol=1e-6)
        np.testing.assert_allclose(state["beta"][i], out["beta_after"], rtol=1e-6)
        ema = settings["goal"] - state["constraint"][i]
        np.testing.assert_allclose(ema, out["err_ema_after"], rtol=1e-6)


def morl_update(arrays):
    """One `update_geco` of the published Efficient MORL: settings, state before, arguments."""
    config = literal(arrays["config"])
    training = config["training"]
    multiplier = geco.make(
        "softplus",
        goal=training["geco_reconstruction_target"],
        step_size=training["geco_beta_stepsize"],
        decay=training["geco_ema_alpha"],
        start=config["geco_warm_start"],
    )
    step = int(arrays["update/step"])
    state = {
        "beta": jnp.float32(arrays["param/geco_beta"]),
        "constraint": jnp.float32(arrays["param/geco_C_ema"]),
        "started": jnp.float32(step > multiplier.start),
    }
    return multiplier, state, jnp.float32(arrays["update/rec_loss"]), step


def test_softplus_form_is_the_published_one():
    """By hand, and against the published updates where their files are."""
    files = []
    for path in sorted((FIXTURES / "efficient_morl").glob("efficient_morl*.npz")):
        arrays = read(path)
        if below(arrays, "update/"):
            files.append(arrays)
    config = {
        "geco_warm_start": 1000,
        "training": {
            "geco_reconstruction_target": -1500.0,
            "geco_beta_stepsize": 1e-6,
            "geco_ema_alpha": 0.99,
        },
    }
    ema = 0.99 * -420.5 + 0.01 * (-1500 + 1170.25)
    by_hand = {
        "config": np.array(repr(config)),
        "param/geco_C_ema": -420.5,
        "param/geco_beta": 0.875,
        "update/step": 1500,
        "update/rec_loss": -1170.25,
        "update/C_ema": ema,
        "update/beta": 0.875 - 1e-6 * ema,
    }
    for arrays in [by_hand, *files]:
        multiplier, state, error, step = morl_update(arrays)
        np.testing.assert_allclose(
            multiplier.weight(state, step), np.log1p(np.exp(state["beta"])), rtol=1e-6
        )
        after = jax.jit(multiplier.update)(state, error, step)
        np.testing.assert_allclose(after["constraint"], arrays["update/C_ema"], rtol=1e-6)
        np.testing.assert_allclose(after["beta"], arrays["update/beta"], rtol=1e-6)


def test_softplus_form_starts_at_its_step():
    multiplier = geco.make("softplus", start=2, decay=0.5, **GOAL)
    weight, state = run(multiplier, [10, 20, 300, 400, 40])
    np.testing.assert_array_equal(state["constraint"], [0, 0, -200, -250, -95])
    np.testing.assert_allclose(state["beta"], [0.55, 0.55, 0.55, 3.05, 4.0], rtol=1e-6)
    expected = [1, 1, *np.log1p(np.exp([0.55, 0.55, 3.05]))]
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_softplus_form_keeps_its_floor():
    _, state = run(geco.make("softplus", **GOAL), [50] * 5)
    np.testing.assert_allclose(state["beta"], 0.55, rtol=1e-6)


@pytest.mark.parametrize("form", geco.FORMS)
def test_weight_drives_the_error_to_the_goal(form):
    """Above the goal the error gains weight against the KL, below it loses weight."""
    multiplier = geco.make(form, **GOAL)
    kl_is_weighted = form == "exponential"
    above, below_goal = (run(multiplier, [e] * 4)[0] for e in (130.0, 70.0))
    share_above = np.diff(above) if kl_is_weighted else -np.diff(above)
    assert (share_above[1:] < 0).all()
    share_below = np.diff(below_goal) if kl_is_weighted else -np.diff(below_goal)
    assert (share_below >= 0).all()


@pytest.mark.parametrize("form", geco.FORMS)
def test_states_are_float32_and_take_no_gradient(form):
    multiplier = geco.make(form, **GOAL)
    state = multiplier.init()
    slope = jax.grad(lambda error: multiplier.update(state, error, 0)["constraint"])(3.0)
    assert slope == 0
    for leaf in jax.tree.leaves([state, multiplier.update(state, jnp.bfloat16(3), 0)]):
        assert leaf.dtype == jnp.float32
        assert leaf.shape == ()


@pytest.mark.parametrize(
    ("form", "settings", "name"),
    [
        ("linear", {}, "linear"),
        ("exponential", {"gain": 2.0}, "gain"),
        ("exponential", {"goal": float("nan")}, "goal"),
        ("exponential", {"step_size": 0.0}, "step_size"),
        ("softplus", {"step_size": -1e-6}, "step_size"),
        ("softplus", {"decay": 1.0}, "decay"),
        ("softplus", {"start": -1}, "start"),
        ("exponential", {"beta_min": 0.0}, "beta_min"),
        ("exponential", {"beta": 2.0, "beta_max": 1.0}, "beta_max"),
        ("softplus", {"beta": 0.1}, "beta_min"),
        ("exponential", {"speedup": -1.0}, "speedup"),
        ("softplus", {"speedup": 10.0}, "speedup"),
        ("softplus", {"goal": None}, "goal is missing"),
    ],
)
def test_wrong_settings_are_refused_by_name(form, settings, name):
    with pytest.raises(ValueError, match=name) as error:
        geco.make(form, **{**GOAL, **settings})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", GOAL)
def test_goal_and_step_size_are_required(name):
    with pytest.raises(ValueError, match=name):
        geco.make("softplus", **{k: v for k, v in GOAL.items() if k != name})
