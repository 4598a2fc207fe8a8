"""Warm starts, frozen parameters, and edits of a parameter with its moments."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import optimizer, run_config
from akorn_jax.errors import UserError
from akorn_jax.layers.frozen import freeze
from akorn_jax.runtime.tree_paths import by_name, edit
from akorn_jax.training import init_from, train_state
from akorn_jax.training.checkpoint import Checkpoints
from configs import base
from tests import toy


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of the toy model whose averaged weights are not its weights."""
    workdir = tmp_path_factory.mktemp("source")
    state = train_state.create(toy.Model(rngs=nnx.Rngs(1)), optax.sgd(0.1))
    ema = jax.tree.map(lambda x: x + 1, state.ema)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(3, dataclasses.replace(state, ema=ema))
    return workdir, by_name(ema[0])


def fill(model, run, **settings):
    config = base.get_config()
    config.init_from.update(path=str(run[0]), **settings)
    init_from.fill(model, config)
    return by_name(nnx.state(model))


def test_all_of_a_run(source):
    found = fill(toy.Model(rngs=nnx.Rngs(0)), source)
    assert found.keys() == source[1].keys()
    for name, array in source[1].items():
        np.testing.assert_array_equal(found[name], array)


def test_a_part_of_a_run(source):
    fresh = by_name(nnx.state(toy.Model(rngs=nnx.Rngs(0))))
    found = fill(toy.Model(rngs=nnx.Rngs(0)), source, scope=".*kernel", target="encoder",
                 source="encoder")  # fmt: skip
    np.testing.assert_array_equal(found["encoder/kernel"], source[1]["encoder/kernel"])
    for name in ("encoder/bias", "decoder/kernel", "decoder/bias", "scale"):
        np.testing.assert_array_equal(found[name], fresh[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scope": "nothing"}, "nothing in it matches .*scope='nothing'"),
        ({"source": "teacher"}, "nothing in it matches source='teacher'"),
        ({"scope": "("}, "is no regular expression"),
    ],
)
def test_refuses(settings, message, source):
    model = toy.Model(rngs=nnx.Rngs(0))
    before = by_name(nnx.state(model))
    with pytest.raises(UserError, match=message):
        fill(model, source, **settings)
    for name, array in by_name(nnx.state(model)).items():
        np.testing.assert_array_equal(array, before[name])


def test_names_all_that_do_not_fit(source):
    with pytest.raises(UserError, match="misshapen") as error:
        fill(toy.Model(width=5, rngs=nnx.Rngs(0)), source)
    for name in ("encoder/kernel", "encoder/bias", "decoder/kernel"):
        assert f"misshapen {name}" in str(error.value)


def test_a_run_without_checkpoints(tmp_path):
    with pytest.raises(UserError, match="has no checkpoint; give a trained run"):
        fill(toy.Model(rngs=nnx.Rngs(0)), (tmp_path, None))


def test_frozen_parameters_have_no_gradient_and_no_moments_and_do_not_change():
    model = toy.Model(rngs=nnx.Rngs(0))
    freeze(model.encoder)
    tx, _ = optimizer.make({"name": "adam", "learning_rate": 0.1}, 10)
    state = train_state.create(model, tx)
    assert not [name for name in by_name(state.params) if "encoder" in name]
    assert not [name for name in by_name(state.opt_state) if "encoder" in name]
    assert [name for name in by_name(state.buffers) if "encoder" in name]
    before = by_name(state.buffers)
    for step in range(12):
        ema = optimizer.ema_update(
            state.ema, (state.params, state.buffers), jnp.int32(step), decay=0.9, every=1, start=0
        )
        state = dataclasses.replace(state, ema=ema)
    for name, array in by_name(state.ema[1]).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("groups", [(), (("encoder.*", {"name": "rmsprop"}),)])
def test_edit_finds_a_parameter_its_average_and_its_moments(groups):
    tx, _ = optimizer.make({"name": "adam", "learning_rate": 0.1, "groups": groups}, 10)
    state = train_state.create(toy.Model(rngs=nnx.Rngs(0)), tx)
    edited = edit(state, "decoder/kernel", lambda x: x + 1)
    changed = [
        name
        for (name, a), b in zip(by_name(state).items(), jax.tree.leaves(edited), strict=True)
        if not np.array_equal(a, b)
    ]
    assert len(changed) == 4, changed  # the parameter, its average, Adam's two moments
    assert all(name.endswith("decoder/kernel") for name in changed)
    with pytest.raises(ValueError, match="'kernel/decoder': no array has this path"):
        edit(state, "kernel/decoder", lambda x: x)


def test_settings_are_checked_like_all_others():
    with pytest.raises(UserError, match="did you mean path"):
        run_config.override(base.get_config(), ["--config.init_from.paht=x"])
