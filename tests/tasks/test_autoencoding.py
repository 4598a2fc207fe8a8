"""The autoencoding loss: what it measures, and that it trains alike on one device and on eight."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from akorn_jax.errors import UserError
from akorn_jax.models import slot_attention
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.autoencoding import Task
from akorn_jax.tasks.base import Context

KEY = jax.random.key(0)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {"image": rng.integers(0, 256, (8, 8, 8, 3), np.uint8)}


CTX = Context(step=jnp.zeros((), jnp.int32), key=KEY, train=True)


class Gray(nnx.Module):
    """Reconstructs every image gray, with a term of 0.5 for it."""

    def __call__(self, images, *, key, train):
        assert train
        recon = jnp.full_like(images, 0.5)
        return ModelOutput(recon=recon, terms={"dull": jnp.full(len(images), 0.5)})


def test_loss_is_the_squared_error_between_minus_one_and_one_plus_terms(batch):
    loss, aux = Task(weights={"mse": 1.0, "dull": 3}).loss(Gray(), batch, CTX)
    metrics = aux.metrics
    error = np.mean((batch["image"] / 127.5 - 1) ** 2)
    np.testing.assert_allclose(metrics["mse"], error, rtol=1e-5)
    np.testing.assert_allclose(metrics["dull"], 0.5)
    np.testing.assert_allclose(loss, error + 1.5, rtol=1e-5)


def test_flip_mirrors_some_images():
    class Seen(nnx.Module):
        def __call__(self, images, *, key, train):
            self.images = nnx.Variable(images)
            return ModelOutput(recon=images)

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 4, 4, 3), np.uint8)
    model = Seen()
    loss, _ = Task(flip=True).loss(model, {"image": image}, CTX)
    assert loss == 0, "the target is mirrored with the input"
    seen = np.round(np.asarray(model.images[...]) * 255)
    same = (seen == image).all((1, 2, 3))
    mirrored = (seen == image[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def tiny(**chosen):
    """A small model with random numbers; initial ones take longer to compile."""
    sizes = {"image_size": 8, "num_slots": 3, "channels": 4, "slot_size": 4, "hidden_size": 4}
    chosen = {**sizes, "decoder": "stationary", **chosen}
    graphdef, state = nnx.split(
        nnx.eval_shape(lambda: slot_attention.Model(**chosen, rngs=nnx.Rngs(0)))
    )
    rng = np.random.default_rng(0)
    numbers = jax.tree.map(lambda a: np.abs(rng.normal(0, 0.1, a.shape)), state)
    return nnx.merge(graphdef, jax.tree.map(jnp.float32, numbers))


def train(model, batch, num_steps=3):
    """Losses of steps of SGD, as the training loop takes them: statistics travel beside weights."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    task, optimizer = Task(), optax.sgd(0.1)

    def loss(params, rest, batch, key):
        model = nnx.merge(graphdef, params, rest, copy=True)
        value, _ = task.loss(model, batch, CTX.with_key(key))
        return value, nnx.split(model, nnx.Param, ...)[2]

    @jax.jit
    def step(params, rest, key):
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, batch, key)
        updates, _ = optimizer.update(grads, optimizer.init(params))
        return value, optax.apply_updates(params, updates), rest

    losses = []
    for i in range(num_steps):
        value, params, rest = step(params, rest, jax.random.fold_in(KEY, i))
        losses.append(float(value))
    return losses, rest


def test_one_device_is_eight(batch):
    """With batch norm, whose statistics are those of the global batch."""
    model = tiny(aggregation="scalar_batch_norm")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = {"image": jax.device_put(batch["image"], NamedSharding(mesh, P("data")))}
    (one, rest_one), (eight, rest_eight) = train(model, batch), train(model, sharded)
    np.testing.assert_allclose(one, eight, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(rest_one), jax.tree.leaves(rest_eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    running = model.slot_attention.norm_updates.mean[...]
    assert jax.tree.leaves(rest_one)[0] != running, "statistics have moved"


def test_losses_fall(batch):
    losses, _ = train(tiny(gradient="implicit"), batch, num_steps=30)
    assert losses[-1] < 0.97 * losses[0]


def test_options_out_of_the_model_s_range_are_refused():
    class Model(Gray):
        option_ranges: ClassVar = {"presence_prior": (0.0, 1.0)}

    falling = {"name": "linear", "start": 0.5, "stop": -0.5, "steps": 10}
    Task(options={"presence_prior": falling, "sigma": -1.0}).check(Model(), num_steps=6)
    with pytest.raises(UserError, match=r"options\.presence_prior is -0\.1 at step 6; .*0 and 1"):
        Task(options={"presence_prior": falling}).check(Model(), num_steps=8)


GECO = {"term": "dull", "form": "softplus", "goal": 3.0, "step_size": 1e-6}


class Sized(Gray):
    """Of one size of images, for which GECO's goal is."""

    least_terms: ClassVar = {"dull": 4.0}

    def __init__(self, image_size):
        self.image_size = image_size


@pytest.mark.parametrize(("goal", "warned"), [(3.0, True), (4.0, False), (5.0, False)])
def test_a_goal_out_of_reach_is_warned_of(goal, warned, caplog):
    task = Task(weights={"mse": 0.0, "dull": "geco"}, geco={**GECO, "goal": goal})
    task.check(Sized(8), num_steps=1)
    assert [record.getMessage()[:43] for record in caplog.records] == [
        "config.task.geco.goal=3 is below 4, the lea"
    ] * warned


def test_gecos_goal_is_for_images_of_one_size(batch):
    task = Task(weights={"mse": 0.0, "dull": "geco"}, geco=GECO)
    ctx = Context(step=jnp.zeros((), jnp.int32), key=KEY, state=task.init_state(), train=True)
    assert task.loss(Sized(8), batch, ctx)[0] > 0
    with pytest.raises(UserError, match=r"set config\.model\.image_size to what the data has"):
        task.loss(Sized(16), batch, ctx)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"goal": None}, "^config.task.geco: goal is missing"),
        ({"step_size": -1.0}, "^config.task.geco: step_size=-1.0 must be positive"),
        ({"form": "linear"}, "^config.task.geco: form='linear' is unknown"),
        ({"speedup": 2.0}, "^config.task.geco: speedup=2.0: the softplus form has no such"),
        ({"term": "nll"}, "^config.task.geco.term='nll': is not in config.task.weights"),
    ],
)
def test_what_geco_refuses_names_its_field(changed, message):
    with pytest.raises(UserError, match=message):
        Task(weights={"dull": "geco"}, geco={**GECO, **changed})
