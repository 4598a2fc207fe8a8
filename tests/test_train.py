"""The loop: it learns, resumes exactly, and is the same program on any number of devices."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax import optimizer
from akorn_jax.data.records import EpochSampler
from akorn_jax.errors import UserError
from akorn_jax.runtime import sharding
from akorn_jax.tasks.base import Aux, Task
from akorn_jax.train import Outcome, make_update, train
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints
from configs import tetrominoes_slot_attention


def final_state(config, workdir):
    model = train_state.build_model(config.model, config.seed)
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    shapes = jax.eval_shape(lambda: train_state.create(model, tx))
    with Checkpoints(epath.Path(workdir) / "checkpoints") as checkpoints:
        return checkpoints.restore_latest(shapes)


def scalars(workdir, name):
    events = EventAccumulator(str(workdir)).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def assert_same(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_an_interrupted_run_ends_as_one_that_was_not(quick, tmp_path):
    quick.mesh.data, quick.mesh.fsdp = 1, -1
    assert train(quick, epath.Path(tmp_path / "whole")) is Outcome.DONE
    whole = final_state(quick, tmp_path / "whole")
    assert whole.step == 12
    losses = scalars(tmp_path / "whole", "train/loss")
    assert sorted(losses) == [4, 8, 12]

    quick.max_hours = 1e-9  # over after the first step
    assert train(quick, epath.Path(tmp_path / "parts")) is Outcome.TIME_LIMIT
    assert final_state(quick, tmp_path / "parts").step == 1
    quick.max_hours = 0.0
    assert train(quick, epath.Path(tmp_path / "parts")) is Outcome.DONE
    parts = final_state(quick, tmp_path / "parts")
    assert_same(parts.state, whole.state, rtol=0, atol=0)

    # And a run that is already done does nothing more.
    assert train(quick, epath.Path(tmp_path / "parts")) is Outcome.DONE
    assert final_state(quick, tmp_path / "parts").step == 12


def setup(config, mesh):
    model = train_state.build_model(config.model, config.seed)
    task = train_state.build("tasks", config.task)
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    state = train_state.create(model, tx)
    placement = sharding.state_sharding(state, mesh, min_size=16)
    update = make_update(model, task, tx, config, placement)
    return jax.device_put(state, placement), update


def scenes(count=32, size=32):
    rng = np.random.default_rng(0)
    return {"image": jnp.asarray(rng.integers(0, 256, (count, size, size, 3), np.uint8))}


def rows(num_steps, batch_size=8):
    order = np.arange(num_steps * batch_size) % 32
    return order.reshape(num_steps, batch_size).astype(np.int32)


@pytest.fixture(scope="module", params=["akorn", "slots"])
def step_on(request, make_tiny):
    """`step_on(data, fsdp)`: a step on a mesh; state, metrics, and the FLOPs of a device.

    Of a small AKOrN, and of a small Slot Attention whose norm looks at the whole batch.
    """
    config = make_tiny()
    if request.param == "slots":
        config = tetrominoes_slot_attention.get_config("batch_norm,procedural")
        config.model.update(image_size=8, channels=4, slot_size=4, hidden_size=4, num_layers=1)
        config.batch_size = 8

    @functools.cache
    def step(data, fsdp):
        mesh = sharding.make_mesh({"data": data, "fsdp": fsdp}, jax.devices()[: data * fsdp])
        state, update = setup(config, mesh)
        source = jax.device_put(scenes(size=config.model.image_size), sharding.batch_sharding(mesh))
        chosen = jax.device_put(rows(1), sharding.replicated(mesh))
        compiled = update.lower(state, source, chosen).compile()
        return *compiled(state, source, chosen), compiled.cost_analysis()["flops"]

    return step


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (4, 2)])
def test_eight_devices_are_one(step_on, shape):
    state, metrics, _ = step_on(1, 1)
    state8, metrics8, _ = step_on(*shape)
    np.testing.assert_allclose(metrics["loss"], metrics8["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], metrics8["grad_norm"], rtol=1e-5)
    # Adam's first moment is the gradient.
    moments = [jax.tree.leaves(s.opt_state)[1:] for s in (state, state8)]
    assert_same(*moments, atol=1e-5)
    assert_same(state.buffers, state8.buffers, rtol=1e-5)


@pytest.mark.parametrize("step_on", ["akorn"], indirect=True)
def test_every_device_does_its_share(step_on):
    """Of the work: rows gathered from a sharded array are not by themselves sharded."""
    assert step_on(8, 1)[-1] < 0.25 * step_on(1, 1)[-1]


@pytest.mark.parametrize("step_on", ["akorn"], indirect=True)
def test_bfloat16_computes_in_it_and_keeps_float32(step_on, tiny):
    _, expected, _ = step_on(1, 1)
    tiny.dtype = "bfloat16"
    state, update = setup(tiny, sharding.make_mesh(tiny.mesh))
    state, metrics = update(state, scenes(), rows(1))
    assert metrics["loss"][0] != expected["loss"][0]
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}


def test_several_steps_a_call_are_the_same_steps(tiny):
    mesh = sharding.make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1])
    state, update = setup(tiny, mesh)
    source = scenes()
    losses = []
    for i in range(3):
        state, metrics = update(state, source, rows(3)[i : i + 1])
        losses.append(float(metrics["loss"][0]))
    tiny.steps_per_call = 3
    state3, update3 = setup(tiny, mesh)
    state3, metrics3 = update3(state3, source, rows(3))
    np.testing.assert_allclose(metrics3["loss"], losses, rtol=1e-5)
    assert_same(state3.params, state.params, atol=1e-5)
    assert int(state3.step) == 3


class Diverging(Task):
    """A task whose loss is NaN when a batch holds scene 13, told by its first pixel."""

    def loss(self, model, batch, ctx):
        embedding = self.apply(model, batch, ctx).embedding
        bad = jnp.any(batch["image"][:, 0, 0, 0] == 13)
        return jnp.mean(embedding**2) + jnp.where(bad, jnp.nan, 0.0), Aux()


def test_a_step_that_is_not_finite_changes_nothing(tiny):
    mesh = sharding.make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1])
    model = train_state.build_model(tiny.model, 0)
    tx, _ = optimizer.make(tiny.optimizer, tiny.num_steps)
    state = train_state.create(model, tx)
    before = jax.tree.map(np.asarray, state)
    update = make_update(model, Diverging(), tx, tiny, sharding.state_sharding(state, mesh))
    images = np.zeros((8, 32, 32, 3), np.uint8)
    images[3, 0, 0, 0] = 13
    state, metrics = update(state, {"image": jnp.asarray(images)}, rows(1))
    assert not metrics["finite"][0]
    assert int(state.step) == 1
    assert_same(state.params, before.params, rtol=0, atol=0)
    assert_same(state.opt_state, before.opt_state, rtol=0, atol=0)


def test_a_run_that_diverges_stops_with_the_step_and_the_scenes(tiny, tmp_path):
    tiny.optimizer.learning_rate = 1e30
    tiny.optimizer.warmup_steps = 0
    tiny.optimizer.schedule = "constant"
    tiny.checkpoint_every = 1
    with pytest.raises(UserError, match=r"step \d+: loss .*last good checkpoint is .*/\d") as error:
        train(tiny, epath.Path(tmp_path))
    assert "\n" not in str(error.value)
    ((step, noted),) = json.loads((tmp_path / "nonfinite.json").read_text()).items()
    rows = EpochSampler(96, 8, tiny.seed)[int(step)]
    assert noted["scenes"] == rows.tolist()
    assert noted["records"] == (32 + rows).tolist()  # the training part starts there
    leaves = jax.tree.leaves(final_state(tiny, tmp_path).state.params)
    assert all(np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps_per_call": 5}, "config.num_steps=12 must be a positive multiple"),
        ({"model.name": "akron"}, "config.model.name='akron': there is no module"),
        ({"model.heads": 3}, "config.model: channels=8 is not divisible by heads=3"),
        ({"model.oscillator_dim": 3}, "config.model: channels=8 is not divisible by oscill"),
        ({"model.image_size": 30}, "config.model: image_size=30 is not divisible by patch_size=4"),
        ({"mesh.data": 3}, "mesh"),
        ({"steps_per_call": 0}, "config.steps_per_call=0: give 1 or more"),
        ({"steps_per_call": 4, "eval_every": 2}, "config.eval_every=2 must be .* or 0"),
        ({"optimizer.schedule": "plateau"}, "set config.eval_every"),
        ({"data.loading": "steam"}, "config.data.loading='steam' is unknown"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(tiny, tmp_path, change, message):
    tiny.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message) as error:
        train(tiny, epath.Path(tmp_path))
    assert "\n" not in str(error.value)


def test_unknown_arguments_are_named(tiny):
    with tiny.unlocked():
        tiny.model.chanels = 3
    with pytest.raises(UserError, match=r"config.model: .*chanels"):
        train_state.build_model(tiny.model, 0)


def test_the_average_starts_as_a_copy_that_is_its_own(tiny):
    model = train_state.build_model(tiny.model, 0)
    tx, _ = optimizer.make(tiny.optimizer, tiny.num_steps)
    state = train_state.create(model, tx)
    assert_same(state.ema, (state.params, state.buffers), rtol=0, atol=0)
    graphdef, _, _ = train_state.split(model)
    assert isinstance(nnx.merge(graphdef, *state.ema), type(model))
