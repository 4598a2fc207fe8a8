"""Weighted terms: schedules, options, GECO, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.tasks.autoencoding import Task
from akorn_jax.tasks.base import Context
from akorn_jax.training import train_state
from tests import toy

KEY = jax.random.key(0)
GECO = {"term": "nll", "form": "softplus", "goal": 5.0, "step_size": 1e-3, "start": 2}


@pytest.fixture(scope="module")
def model():
    return toy.Model(rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def batch():
    return {"image": np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)}


def context(step, state=()):
    return Context(jnp.int32(step), KEY, state, train=True)


def test_the_loss_is_the_weighted_sum_of_the_terms(model, batch):
    linear = {"name": "linear", "start": 0.0, "stop": 2.0, "steps": 10}
    task = Task(weights={"nll": 3.0, "kl": linear, "mse": 0})
    for step, weight in ((0, 0.0), (5, 1.0), (20, 2.0)):
        loss, aux = task.loss(model, batch, context(step))
        terms = aux.metrics
        np.testing.assert_allclose(loss, 3 * terms["nll"] + weight * terms["kl"], rtol=1e-5)
        assert terms["weight_kl"] == weight
        assert "weight_nll" not in terms, "constants are in the config"


def test_options_reach_the_model(batch):
    seen = []

    class Spy(toy.Model):
        def __call__(self, images, *, temperature, **rest):
            seen.append(float(temperature))
            return super().__call__(images, temperature=temperature, **rest)

    schedule = {"name": "exponential", "value": 1.0, "rate": 0.5, "steps": 4}
    task = Task(weights={"nll": 1, "kl": 1}, options={"temperature": schedule})
    for step in (0, 4, 8):
        _, aux = task.loss(Spy(rngs=nnx.Rngs(0)), batch, context(step))
        assert aux.metrics["option_temperature"] == seen[-1]
    np.testing.assert_allclose(seen, [1, 0.5, 0.25])


def test_geco_moves_only_from_its_start_on(model, batch):
    task = Task(weights={"nll": "geco", "kl": 1}, geco=GECO)
    state = train_state.create(model, optax.sgd(0.1), task.init_state())
    betas = []
    for step in range(5):
        state = dataclasses.replace(state, step=jnp.int32(step))
        _, aux = task.loss(model, batch, context(step, state.task))
        state = task.after_step(state, aux, KEY)
        betas.append(float(state.task["beta"]))
    assert betas[0] == betas[1] == betas[2], "before the start, and at the first value"
    assert betas[2] < betas[3] < betas[4], "the error is above its goal: its weight grows"
    terms = aux.metrics
    loss, _ = task.loss(model, batch, context(5, state.task))
    weight = np.log1p(np.exp(betas[4]))
    np.testing.assert_allclose(loss, weight * terms["nll"] + terms["kl"], rtol=1e-4)


def test_a_step_that_is_not_finite_moves_no_multiplier(model, batch):
    """As in the training loop: `where(finite, new, old)` after `after_step`."""
    task = Task(weights={"nll": "geco", "kl": 1}, geco={**GECO, "start": 0})
    old = train_state.create(model, optax.sgd(0.1), task.init_state())
    _, aux = task.loss(model, batch, context(0, old.task))
    new = task.after_step(old, dataclasses.replace(aux, extra=jnp.float32(jnp.nan)), KEY)
    kept = jax.tree.map(lambda n, o: jnp.where(jnp.isfinite(jnp.nan), n, o), new, old)
    assert jax.tree.map(float, kept.task) == jax.tree.map(float, old.task)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"nll": 1, "kl": 1, "klm": 1}}, "weights.klm: .* no such term; it has"),
        ({"weights": {"nll": 1}}, "weights.kl is missing"),
        ({"weights": {"nll": "fast", "kl": 1}}, "weights.nll='fast'"),
        ({"weights": {"nll": "geco", "kl": 1}}, "config.task.geco is empty"),
        ({"weights": {"nll": 1, "kl": 1}, "geco": GECO}, "no weight and no option is 'geco'"),
        (
            {"weights": {"nll": "geco", "kl": 1}, "geco": {**GECO, "term": "err"}},
            "geco.term='err': is not in config.task.weights",
        ),
        ({"options": {"temperature": {"name": "?"}}}, "options.temperature.name='\\?'"),
    ],
)
def test_refuses(fields, message, model, batch):
    with pytest.raises(UserError, match=message):
        Task(**fields).loss(model, batch, context(0))
