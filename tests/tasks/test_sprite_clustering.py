"""Laws of the sprites' re-assignment inside the training step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.models import dti_sprites
from akorn_jax.outputs import ModelOutput
from akorn_jax.runtime.tree_paths import by_name
from akorn_jax.tasks import base, sprite_clustering
from akorn_jax.training import train_state

L, S = 2, 3
WEIGHTS = {"mse": 1.0, "l2": 1e-6}


def make(**options):
    return sprite_clustering.Task(
        num_layers=L, num_choices=S + 1, weights=WEIGHTS, reassign_every=4, **options
    )


@pytest.fixture(scope="module")
def state():
    """A training state whose arrays are all different, but for the optimizer's counters."""
    model = nnx.eval_shape(
        lambda: dti_sprites.Model(
            image_size=16,
            num_sprites=S,
            num_layers=L,
            sprite_size=8,
            encoder_channels=(4, 4),
            hidden_size=4,
            rngs=nnx.Rngs(0),
        )
    )
    graphdef, shapes = nnx.split(model)
    rng = np.random.default_rng(0)
    filled = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), shapes)
    state = train_state.create(nnx.merge(graphdef, filled), optax.adam(1e-3), make().init_state())

    def differ(leaf):
        return leaf + jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) if leaf.ndim else leaf

    return dataclasses.replace(state, opt_state=jax.tree.map(differ, state.opt_state))


@functools.cache
def step_of(task):
    return jax.jit(lambda state, aux, key: task.after_step(state, aux, key))


def after(task, state, step, usage, chosen=0.0, steps=0.0):
    """The state after a step in which both layers chose as `usage` says."""
    counts = {"chosen": jnp.full((L, S + 1), chosen), "steps": jnp.asarray(steps)}
    state = dataclasses.replace(state, step=jnp.asarray(step), task=counts)
    aux = base.Aux(extra=jnp.tile(jnp.asarray(usage, jnp.float32), (L, 1)))
    return step_of(task)(state, aux, jax.random.key(0))


def assert_same(before, changed, but=()):
    others = by_name(changed)
    for name, leaf in by_name(before).items():
        if not any(part in name for part in but):
            np.testing.assert_array_equal(leaf, others[name], err_msg=name)


TASK = make()
UNUSED_FIRST = [0.0, 0.7, 0.3, 0.0]


def test_an_unused_sprite_becomes_a_copy_with_its_moments(state):
    changed = after(TASK, state, 4, UNUSED_FIRST)
    old, new = by_name(state), by_name(changed)
    copied = 0
    for name, leaf in new.items():
        path = name.split("/")
        if "sprite_transformations" in path:
            np.testing.assert_array_equal(leaf[:, 0], old[name][:, 1], err_msg=name)
            np.testing.assert_array_equal(leaf[:, 1:], old[name][:, 1:], err_msg=name)
            copied += 1
        elif path[-1] == "masks":
            np.testing.assert_array_equal(leaf, old[name][jnp.array([1, 1, 2])], err_msg=name)
            copied += 1
    assert copied == 4 * (6 + 1)  # parameters, average, two moments: six of the regressors, masks
    colors = new["params/sprites"]
    np.testing.assert_allclose(colors[0], old["params/sprites"][1], atol=1e-3)
    assert (colors[0] != colors[1]).all(), "noise tells the copies apart"
    assert (colors[1] != old["params/sprites"][1]).any(), "the original gets noise too"
    np.testing.assert_array_equal(colors[2], old["params/sprites"][2])
    for name in new:
        if name.startswith("opt_state") and name.endswith("/sprites"):
            np.testing.assert_array_equal(new[name], old[name])
    assert_same(state, changed, but=("sprites", "masks", "sprite_transformations", "task", "step"))


def test_counts_start_again_when_it_is_time_and_add_up_before(state):
    changed = after(TASK, state, 4, UNUSED_FIRST, chosen=1.0, steps=3.0)
    assert not changed.task["chosen"].any()
    assert not changed.task["steps"]
    changed = after(TASK, state, 5, UNUSED_FIRST, chosen=1.0, steps=3.0)
    np.testing.assert_allclose(changed.task["chosen"][0], 1 + np.float32(UNUSED_FIRST))
    assert changed.task["steps"] == 4
    assert_same(state, changed, but=("task", "step"))


@pytest.mark.parametrize(
    "usage", [[0.3, 0.3, 0.4, 0.0], [0.0, 0.0, 0.0, 1.0]], ids=["all used", "all layers empty"]
)
def test_nothing_is_replaced(state, usage):
    assert_same(state, after(TASK, state, 4, usage), but=("task", "step"))


def test_nothing_is_replaced_while_sprites_are_not_learned(state):
    learn = {"name": "piecewise", "values": (0.0, 1.0), "boundaries": (6,)}
    task = make(options={"learn_sprites": learn})
    assert_same(state, after(task, state, 4, UNUSED_FIRST), but=("task", "step"))
    changed = after(task, state, 8, UNUSED_FIRST)
    assert (changed.params["masks"][0] == state.params["masks"][1]).all()


def test_other_numbers_than_the_models_are_refused():
    output = ModelOutput(slots=jnp.zeros((2, 1 + L, S)))
    with pytest.raises(UserError, match="choices count the empty sprite"):
        TASK.extra(output, {})


def test_the_background_starts_as_the_mean(state):
    class Stub:
        def init_background(self, images):
            self.images = images

    model = Stub()
    batch = {"image": np.full((2, 4, 4, 3), 51, np.uint8)}
    TASK.init_model(model, batch)
    np.testing.assert_allclose(model.images, 0.2, rtol=1e-6)
    make(mean_background=False).init_model(None, batch)
