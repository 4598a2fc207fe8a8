"""Optimizers against PyTorch's update rules, schedules and averages against official values."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import optimizer
from akorn_jax.errors import UserError
from akorn_jax.runtime.tree_paths import by_name

FIXTURES = Path(__file__).parents[1] / "fixtures"


def run(config, gradients, start=1.0, num_steps=100):
    """The value of a scalar parameter after each of the given gradients."""
    tx, _ = optimizer.make(config, num_steps)
    params = {"w": jnp.float32(start)}
    state = tx.init(params)
    values = []
    for gradient in gradients:
        updates, state = tx.update({"w": jnp.float32(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        values.append(float(params["w"]))
    return np.array(values)


GRADIENTS = [0.3, -1.2, 0.05, 2.0, 1e-6, -0.4]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_follows_pytorch(name):
    lr, b1, b2, eps, decay = 0.01, 0.9, 0.99, 1e-6, 0.1
    w, m, v, expected = 1.0, 0.0, 0.0, []
    for t, g in enumerate(GRADIENTS, 1):
        g = g + decay * w if name == "adam" else g
        w = w - lr * decay * w if name == "adamw" else w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        expected.append(w)
    config = {"name": name, "learning_rate": lr, "b2": b2, "eps": eps, "weight_decay": decay}
    np.testing.assert_allclose(run(config, GRADIENTS), expected, rtol=1e-6)


def test_rmsprop_follows_pytorch():
    lr, alpha, eps, decay = 0.01, 0.99, 1e-3, 0.1
    w, v, expected = 1.0, 0.0, []
    for g in GRADIENTS:
        g = g + decay * w
        v = alpha * v + (1 - alpha) * g * g
        w = w - lr * g / (np.sqrt(v) + eps)
        expected.append(w)
    config = {"name": "rmsprop", "learning_rate": lr, "eps": eps, "weight_decay": decay}
    np.testing.assert_allclose(run(config, GRADIENTS), expected, rtol=1e-6)


def test_official_slot_attention_schedule():
    official = np.load(FIXTURES / "slot_attention" / "e_lr_schedule.npz")
    config = {
        "learning_rate": 4e-4,
        "warmup_steps": 10_000,
        "schedule": "exponential",
        "decay_rate": 0.5,
        "decay_steps": 100_000,
    }
    _, schedule = optimizer.make(config, 500_000)
    step = official["step"]
    np.testing.assert_allclose(schedule(step), official["lr_tf_formula"], rtol=1e-12)
    traced = jax.jit(schedule)(jnp.asarray(step, jnp.int32))
    np.testing.assert_allclose(traced, official["lr_tf_formula"], rtol=1e-5, atol=1e-12)
    # After warm-up PyTorch's schedulers, as released, agree (with their rescaled base rate).
    late = step >= 10_000
    np.testing.assert_allclose(schedule(step[late]), official["lr"][late], rtol=1e-6)


def test_the_first_update_uses_the_rate_at_zero():
    config = {"learning_rate": 0.1, "warmup_steps": 4}
    tx, schedule = optimizer.make(config, 10)
    assert [float(schedule(t)) for t in (0, 1, 4, 9)] == pytest.approx([0, 0.025, 0.1, 0.1])
    np.testing.assert_allclose(run(config, [1.0, 1.0]), [1.0, 1.0 - 0.025], rtol=1e-6)
    assert tx.init({"w": jnp.ones(())}) is not None


def test_cosine_ends_at_num_steps():
    config = {
        "learning_rate": 2.0,
        "warmup_steps": 10,
        "schedule": "cosine",
        "final_fraction": 0.1,
    }
    _, schedule = optimizer.make(config, 110)
    assert [float(schedule(t)) for t in (5, 10, 60, 110, 500)] == pytest.approx(
        [1.0, 2.0, 1.1, 0.2, 0.2]
    )


def test_exponential_may_start_after_warm_up():
    config = {"schedule": "exponential", "decay_steps": 10, "decay_start": 100, "decay_rate": 0.1}
    _, schedule = optimizer.make({**config, "learning_rate": 1.0}, 1000)
    assert [float(schedule(t)) for t in (0, 100, 110)] == pytest.approx([1.0, 1.0, 0.1])


def test_plateau_reduces_as_pytorch():
    config = {
        "learning_rate": 1.0,
        "schedule": "plateau",
        "plateau_factor": 0.1,
        "plateau_patience": 1,
        "plateau_min": 0.05,
    }
    tx, _ = optimizer.make(config, 100)
    params = {"w": jnp.zeros(())}
    state = tx.init(params)
    report = jax.jit(optimizer.observe)
    # best, tiny improvement (not one), worse -> cut; better, then two bad ones -> cut to the floor
    values = [1.0, 0.99999, 1.1, 0.5, 0.6, 0.6, 0.6, 0.6]
    scales = []
    for value in values:
        state = report(state, value)
        scales.append(float(optimizer.plateau_scale(state)))
    assert scales == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])
    updates, _ = tx.update({"w": jnp.ones(())}, state, params)
    assert float(updates["w"]) == pytest.approx(-0.05, rel=1e-5)


def test_report_leaves_other_schedules_alone():
    tx, _ = optimizer.make({"learning_rate": 1.0}, 100)
    state = tx.init({"w": jnp.zeros(())})
    assert jax.tree.all(jax.tree.map(jnp.array_equal, optimizer.observe(state, 1.0), state))
    assert float(optimizer.plateau_scale(state)) == 1.0


@pytest.mark.parametrize(
    ("field", "norm"), [("clip_norm", np.linalg.norm), ("clip_value", lambda g: np.abs(g).max())]
)
def test_clipping_is_global(field, norm):
    gradients = {"a": jnp.array([3.0, -4.0]), "b": jnp.array(12.0)}
    flat = np.array([3.0, -4.0, 12.0])
    tx, _ = optimizer.make({field: 2.0}, 100)
    small, _ = optimizer.make({field: 100.0}, 100)
    # Adam hides scales: look at the first moment, (1 - b1) times the clipped gradient.
    for made, expected in ((tx, flat * 2.0 / norm(flat)), (small, flat)):
        _, state = made.update(gradients, made.init(gradients), gradients)
        moment = optax.tree.get(state, "mu")
        seen = np.append(np.asarray(moment["a"]), moment["b"]) / 0.1
        np.testing.assert_allclose(seen, expected, rtol=1e-5)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.encoder = nnx.Linear(2, 2, rngs=rngs)
        self.heads = nnx.List([nnx.Linear(2, 2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)])


def group_updates(config):
    """First updates of every parameter of `Net` for gradients of ones, by path."""
    params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    tx, _ = optimizer.make(config, 100)
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(tx.update)(gradients, tx.init(params), params)
    return {name: float(jnp.mean(leaf)) for name, leaf in by_name(updates).items()}


def test_groups_scale_freeze_and_differ():
    updates = group_updates(
        {
            "learning_rate": 0.01,
            "groups": (
                ("heads/0/bias", 3.0),
                ("encoder/.*", 0),
                ("heads/1/.*", {"name": "rmsprop", "learning_rate": 0.5}),
            ),
        }
    )
    expected = {
        "encoder/bias": 0.0,
        "encoder/kernel": 0.0,
        "heads/0/bias": -0.03,
        "heads/0/kernel": -0.01,
        "heads/1/bias": -5.0,  # RMSprop's first step: 0.5 / sqrt(1 - 0.99)
        "heads/1/kernel": -5.0,
    }
    assert updates == pytest.approx(expected, rel=1e-5)


def test_clipping_ignores_frozen_parameters():
    params = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
    tx, _ = optimizer.make({"clip_norm": 1.0, "eps": 1.0, "groups": [["b", 0]]}, 100)
    gradients = {"a": jnp.array(0.5), "b": jnp.array(1e6)}
    _, state = tx.update(gradients, tx.init(params), params)
    assert float(optax.tree.get(state, "mu")["a"]) == pytest.approx(0.05)


def test_a_group_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"'decoder/\.\*' is the first match of no parameter"):
        group_updates({"groups": [["decoder/.*", 0]]})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"nme": "adam"}, r"optimizer\.nme='adam': no such field; did you mean 'name'\?"),
        ({"name": "sgd"}, r"optimizer\.name='sgd': choose one of adam, adamw, rmsprop"),
        ({"schedule": "linear"}, r"schedule='linear': choose one of"),
        ({"learning_rate": -1.0}, r"learning_rate=-1\.0: must be above 0"),
        ({"learning_rate": None}, r"learning_rate=None: must be above 0"),
        ({"learning_rate": "1e-3"}, r"learning_rate='1e-3'"),
        ({"b2": 1.0}, r"b2=1\.0: must be in \[0, 1\)"),
        ({"warmup_steps": -1}, r"warmup_steps=-1"),
        ({"decay_steps": 10}, r"decay_steps=10: only schedule='exponential' uses it"),
        ({"schedule": "exponential"}, r"decay_steps=None: schedule='exponential' needs it"),
        ({"name": "rmsprop", "b1": 0.9}, r"b1=0\.9: rmsprop has no momentum"),
        ({"groups": ["encoder"]}, r"groups: 'encoder' is not a pair"),
        ({"groups": [["(", 1.0]]}, r"groups: .* is not a pair"),
        ({"groups": [["a", -1.0]]}, r"groups\['a'\]=-1\.0: give a multiplier"),
        ({"groups": [["a", {"clip_norm": 1.0}]]}, r"groups\['a'\]\.clip_norm: is one for all"),
        ({"groups": [["a", {"eps": -1.0}]]}, r"groups\['a'\]\.eps=-1\.0"),
    ],
)
def test_bad_settings_are_one_line(config, message):
    with pytest.raises(UserError, match=message) as error:
        optimizer.make(config, 100)
    assert "\n" not in str(error.value)


def test_a_config_dict_is_read():
    config = ConfigDict({"name": "adam", "learning_rate": 0.1, "groups": (("w", 2.0),)})
    np.testing.assert_allclose(run(config, [1.0]), [0.8], rtol=1e-5)


@pytest.mark.parametrize("case", ["objs", "sudoku", "cls"])
def test_official_ema_schedule(case):
    official = np.load(FIXTURES / "n_ema_schedule.npz")
    decay, every, start = official[f"{case}/opts"].tolist()
    every, start = int(every), int(start)
    expected = official[f"{case}/ema_of_t"]

    value, seen = 0.0, []
    for step in range(len(expected)):
        d = optimizer.ema_decay(step, decay, every, start)
        value = d * value + (1 - d) * (step + 1)
        seen.append(value)
    np.testing.assert_allclose(seen, expected, rtol=5e-6)  # theirs is in float32

    steps = jnp.arange(len(expected))
    traced = jax.jit(lambda s: optimizer.ema_decay(s, decay, every, start))(steps)
    by_numpy = optimizer.ema_decay(np.arange(len(expected)), decay, every, start)
    np.testing.assert_allclose(traced, by_numpy, atol=2e-7)

    def body(ema, step):
        ema = optimizer.ema_update(ema, step + 1.0, step, decay=decay, every=every, start=start)
        return ema, ema

    _, trajectory = jax.lax.scan(body, jnp.zeros(()), steps)
    np.testing.assert_allclose(trajectory, expected, rtol=2e-5)


def test_ema_update_averages_floats_and_copies_the_rest():
    options = {"decay": 0.5, "every": 10, "start": 0}
    ema = {"w": jnp.zeros(2), "n": jnp.array(1), "key": jax.random.key(0)}
    new = {"w": jnp.array([1.0, jnp.inf]), "n": jnp.array(7), "key": jax.random.key(1)}
    update = jax.jit(lambda step: optimizer.ema_update(ema, new, step, **options))
    between, later, first = update(3), update(100), update(0)
    np.testing.assert_array_equal(between["w"], [0.0, 0.0])
    np.testing.assert_array_equal(later["w"], [0.5, np.inf])
    np.testing.assert_array_equal(first["w"][0], 1.0)
    assert int(between["n"]) == int(later["n"]) == 7
    assert jax.random.key_data(later["key"])[1] == 1
