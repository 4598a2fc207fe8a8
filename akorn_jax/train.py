"""The training loop, for every model and task."""

import dataclasses
import enum
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import config as configs
from akorn_jax import data, feed, optimizer, progress, sharding, writers
from akorn_jax import state as states
from akorn_jax.checkpoint import Checkpoints
from akorn_jax.errors import UserError
from akorn_jax.state import TrainState
from akorn_jax.watch import Watch

Array = jax.Array
PyTree = Any
Metrics = dict[str, Array]


class Outcome(enum.Enum):
    """Why a run ended."""

    DONE = "done"
    TIME_LIMIT = "time limit"


def train(config: ConfigDict, workdir: epath.Path) -> Outcome:
    """Trains from the newest intact checkpoint, or from the start, to `config.num_steps`.

    Args:
        config: see configs/base.py.
        workdir: gets TensorBoard events and `checkpoints`.

    Raises:
        UserError: the config, the data or the devices do not fit together.
        FloatingPointError: too many steps had a non-finite loss or gradient.
    """
    started = time.monotonic()
    check(config)

    # The devices, and what is trained on them
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch_size(config.batch_size, mesh)
    model = states.build_model(config.model, config.seed)
    task = states.build("tasks", config.task)
    transformation, schedule = optimizer.make(config.optimizer, config.num_steps)

    # The data: its order depends on the seed and the step alone
    examples = data.load(config.data, "train", config.data_dir)
    order = data.Order(len(examples), config.batch_size, config.seed)
    batches = feed.Resident(feed.fields(examples, task.fields), order, mesh)

    # The state, from the newest intact checkpoint if there is one
    shapes = jax.eval_shape(lambda: states.create(model, transformation))
    placement = sharding.state_sharding(shapes, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints)
    restored = checkpoints.restore_latest(shapes, placement)
    if restored is None:
        state = jax.jit(lambda: states.create(model, transformation), out_shardings=placement)()
        first = 0
    else:
        state, first = restored.state, restored.step
        logging.info("Resuming from step %d.", first)
    update = make_update(model, task, transformation, config, placement)
    configs.save(config, workdir)  # all fits: from now on this directory belongs to the run

    # The loop: dispatch a call, then look at what the call before it gave
    logging.info(
        "Training %s parameters on %d scenes and %d devices, steps %d to %d.",
        f"{sum(leaf.size for leaf in jax.tree.leaves(shapes.params)):,}",
        *(len(examples), mesh.size, first, config.num_steps),
    )
    writer = writers.create_writer(workdir, first_step=first)
    watch = Watch(config, task.views, schedule, writer, checkpoints.last_good)
    outcome, pending = Outcome.DONE, None
    with checkpoints, progress.bar(config.num_steps, first) as bar:
        for step in range(first, config.num_steps, config.steps_per_call):
            source, rows = batches(step, config.steps_per_call)
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, source, rows)
            if pending is not None:
                watch(*pending)
            done = step + config.steps_per_call
            pending = (done, metrics, rows)
            bar.update(done, loss=watch.loss)
            late = 0 < config.max_hours < (time.monotonic() - started) / 3600
            if done % config.checkpoint_every == 0 or done == config.num_steps or late:
                watch(*pending)  # what is saved was looked at
                pending = None
                checkpoints.save(done, state)
            if late and done < config.num_steps:
                outcome = Outcome.TIME_LIMIT
                break
    writer.close()
    return outcome


def check(config: ConfigDict) -> None:
    """Refuses settings that contradict each other."""
    k = config.steps_per_call
    for name in ("num_steps", "log_every", "checkpoint_every"):
        if config[name] < 1 or config[name] % k:
            raise UserError(
                f"config.{name}={config[name]} must be a positive multiple of "
                f"config.steps_per_call={k}."
            )
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.dtype={config.dtype!r} is unknown; use float32 or bfloat16.")


def make_update(
    model: nnx.Module,
    task: object,
    transformation: optax.GradientTransformation,
    config: ConfigDict,
    placement: PyTree,
) -> Callable[[TrainState, dict[str, Array], Array], tuple[TrainState, Metrics]]:
    """Compiles `steps_per_call` steps: (state, arrays, rows) to (state, metrics).

    Arrays are `[N, ...]` by field, rows `[K, B]` say which of them each of the K steps takes.
    Metrics are `[K]` each: what the task gives, and loss, grad_norm, finite. A step whose loss or
    gradient is not finite leaves the weights as they were.
    """
    graphdef, _, _ = states.split(model)
    seed = config.seed

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss(params: PyTree) -> tuple[Array, tuple[Metrics, PyTree]]:
            params = jax.tree.map(lambda p: p.astype(config.dtype), params)
            model = nnx.merge(graphdef, params, state.buffers, copy=True)  # it may change itself
            value, metrics = task.loss(model, batch, key)
            _, _, buffers = states.split(model)
            return value, (metrics, buffers)

        (value, (metrics, buffers)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = transformation.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optimizer.ema_update(state.ema, (params, buffers), state.step, **config.ema)

        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        new = TrainState(state.step, params, buffers, opt_state, ema)
        new = jax.tree.map(lambda n, old: jnp.where(finite, n, old), new, state)
        new = dataclasses.replace(new, step=state.step + 1)
        return new, {**metrics, "loss": value, "grad_norm": norm, "finite": finite}

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=(placement, None))
    def update(
        state: TrainState, source: dict[str, Array], rows: Array
    ) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, rows: Array) -> tuple[TrainState, Metrics]:
            return step(state, {name: array[rows] for name, array in source.items()})

        if config.steps_per_call == 1:  # XLA's CPU backend is slow inside a loop, even of one step
            state, metrics = body(state, rows[0])
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(body, state, rows)

    return update
