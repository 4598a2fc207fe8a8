"""One grammar of schedules: values against their formulas, and PyTorch's one cycle by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.errors import UserError
from akorn_jax.optimizer import schedules

CASES = [
    (0.5, {0: 0.5, 10**6: 0.5}),
    ({"name": "constant", "value": 2}, {3: 2.0}),
    (
        {"name": "linear", "start": 1.0, "stop": 0.0, "steps": 10, "begin": 5},
        {0: 1.0, 5: 1.0, 10: 0.5, 15: 0.0, 99: 0.0},
    ),
    (
        {"name": "cosine", "start": 2.0, "stop": 1.0, "steps": 10},
        {0: 2.0, 5: 1.5, 10: 1.0, 20: 1.0},
    ),
    (
        {"name": "exponential", "value": 4.0, "rate": 0.5, "steps": 10, "floor": 0.9},
        {0: 4.0, 10: 2.0, 5: 4 * 0.5**0.5, 30: 0.9},
    ),
    (
        {"name": "piecewise", "values": (1.0, 0.1, 0.01), "boundaries": (10, 20)},
        {0: 1.0, 9: 1.0, 10: 0.1, 19: 0.1, 20: 0.01},
    ),
    (
        {"name": "warmup", "steps": 4, "then": {"name": "constant", "value": 8.0}},
        {0: 0.0, 1: 2.0, 4: 8.0, 9: 8.0},
    ),
    # torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=11, pct_start=0.3)
    (
        {"name": "one_cycle", "peak": 1.0, "steps": 11},
        {0: 0.04, 10: 4e-6},
    ),
]


@pytest.mark.parametrize(("spec", "expected"), CASES)
def test_values_for_numbers_and_traced_steps(spec, expected):
    schedule = schedules.make(spec)
    traced = jax.jit(schedule)
    for step, value in expected.items():
        np.testing.assert_allclose(schedule(step), value, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(traced(jnp.int32(step)), value, rtol=1e-5, atol=1e-7)


def test_one_cycle_is_highest_where_the_warmup_ends():
    values = [
        float(schedules.make({"name": "one_cycle", "peak": 1.0, "steps": 100})(t))
        for t in range(100)
    ]
    assert np.argmax(values) == 29
    assert (np.diff(values[:30]) > 0).all()
    assert (np.diff(values[29:]) < 0).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fast", "here='fast': give a number or a schedule"),
        (True, "here=True: give a number or a schedule"),
        ({"name": "linar"}, "here.name='linar': choose one of constant, linear"),
        ({"name": "linear", "start": 1, "stop": 0}, "here.steps is missing"),
        ({"name": "linear", "start": 1, "stop": 0, "step": 5}, "here.step=5: .* 'steps'"),
        ({"name": "linear", "start": 1, "stop": 0, "steps": 0}, "here: steps=0 must be above 0"),
        ({"name": "piecewise", "values": (1,), "boundaries": (5,)}, "must be one more than"),
        ({"name": "piecewise", "values": (1, 2, 3), "boundaries": (5, 4)}, "must ascend"),
        ({"name": "warmup", "steps": 5, "then": {"name": "?"}}, "here.then.name="),
    ],
)
def test_refuses(spec, message):
    with pytest.raises(UserError, match=message):
        schedules.make(spec, "here")
