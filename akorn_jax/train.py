"""The training loop, for every model and task."""

import dataclasses
import functools
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
from akorn_jax import feed, optimizer, processes, progress, sharding, writers
from akorn_jax import state as states
from akorn_jax.checkpoint import Checkpoints
from akorn_jax.errors import UserError
from akorn_jax.layers import precision
from akorn_jax.nonfinite import NonFinite
from akorn_jax.preemption import Outcome, Stop
from akorn_jax.probe import Probe
from akorn_jax.state import TrainState
from akorn_jax.watch import Trace, Watch

Array = jax.Array
PyTree = Any
Metrics = dict[str, Array]


def train(config: ConfigDict, workdir: epath.Path) -> Outcome:
    """Trains from the newest intact checkpoint, or from the start, to `config.num_steps`.

    Args:
        config: see configs/base.py.
        workdir: gets TensorBoard events and `checkpoints`.

    Raises:
        UserError: the config, the data or the devices do not fit together; too many steps had a
            non-finite loss or gradient; the last state could not be saved.
    """
    stop = Stop(config.max_hours)
    check(config)

    # The devices, and what is trained on them
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch_size(config.batch_size, mesh)
    model = states.build_model(config.model, config.seed)
    task = states.build("tasks", config.task)
    transformation, schedule = optimizer.make(config.optimizer, config.num_steps)

    # The data: its order depends on the seed and the step alone
    batches = feed.make(config, task.fields, mesh)

    # The state, from the newest intact checkpoint if there is one
    shapes = jax.eval_shape(lambda: states.create(model, transformation))
    placement = sharding.state_sharding(shapes, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints)
    restored = checkpoints.restore_latest(shapes, placement)
    if restored is None:
        state = jax.jit(lambda: states.create(model, transformation), out_shardings=placement)()
        first, seen = 0, {}
    else:
        first, state, seen = restored
        check_continues(config, first)
        logging.info("Resuming from step %d.", first)
    update = make_update(model, task, transformation, config, placement)

    # What people watch, none of which changes the training
    writer = writers.create_writer(workdir, first_step=first, wandb_project=config.wandb_project)
    nonfinite = NonFinite(
        config.skip_nonfinite,
        workdir / "nonfinite.json",
        batches.records,
        checkpoints.last_good,
        seen.get("nonfinite", 0),
    )
    watch = Watch(config, task.views, schedule, writer, nonfinite)
    probe = Probe(config, model, task, mesh, writer)
    trace = Trace(workdir, config.profile_at)
    if processes.is_primary():
        configs.save(config, workdir)  # all fits: from now on this directory belongs to the run
        watch.introduce(first, shapes.params)
    logging.info(
        "Training %s parameters on %d scenes and %d devices, steps %d to %d.",
        f"{sum(leaf.size for leaf in jax.tree.leaves(shapes.params)):,}",
        *(len(batches.records), mesh.size, first, config.num_steps),
    )

    # The loop: dispatch a call, then look at what the call before it gave
    done, outcome, pending = first, None, None
    with checkpoints, batches, stop, probe, progress.bar(config.num_steps, first) as bar:
        while done < config.num_steps and outcome is None:
            trace(done, state.step)
            batch = batches(done, config.steps_per_call)
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, batch.source, batch.chosen)
            if pending is not None:
                watch(*pending)
            done += config.steps_per_call
            pending = (done, metrics, batch)
            bar.update(done, loss=watch.loss)
            watch.histograms(done, state.params, mesh)
            state = probe(done, state)
            outcome = stop()
            if done % config.checkpoint_every == 0 or done == config.num_steps or outcome:
                watch(*pending)  # what is saved was looked at
                pending = None
                checkpoints.save(done, state, {"nonfinite": nonfinite.count})
        trace.close()
        checkpoints.wait()
    writer.close()
    if checkpoints.last_step != done > first:
        raise UserError(
            f"{workdir}: step {done}, the last, could not be saved; {checkpoints.last_good()}. "
            "Make room and run the same command again."
        )
    return outcome if done < config.num_steps else Outcome.DONE


def check(config: ConfigDict) -> None:
    """Refuses settings that contradict each other."""
    k = config.steps_per_call
    if k < 1:
        raise UserError(f"config.steps_per_call={k}: give 1 or more.")
    required = ("num_steps", "log_every", "checkpoint_every")
    for name in (*required, "eval_every", "histogram_every"):
        if config[name] < (name in required) or config[name] % k:
            raise UserError(
                f"config.{name}={config[name]} must be a positive multiple of "
                f"config.steps_per_call={k}{'' if name in required else ', or 0'}."
            )
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.dtype={config.dtype!r} is unknown; use float32 or bfloat16.")
    if config.optimizer.schedule == "plateau" and not config.eval_every:
        raise UserError(
            "config.optimizer.schedule='plateau' looks at the evaluations during training; set "
            "config.eval_every."
        )


def check_continues(config: ConfigDict, first: int) -> None:
    """Refuses calls of so many steps that they would step over the end or over checkpoints."""
    if first % config.steps_per_call:
        raise UserError(
            f"config.steps_per_call={config.steps_per_call} does not divide step {first}, where "
            "this run goes on; set it to 1."
        )


def make_update(
    model: nnx.Module,
    task: object,
    transformation: optax.GradientTransformation,
    config: ConfigDict,
    placement: PyTree,
) -> Callable[[TrainState, dict[str, Array], Any], tuple[TrainState, Metrics]]:
    """Compiles `steps_per_call` steps: (state, source, chosen) to (state, metrics).

    Source and chosen are those of `feed.Batches`. Metrics are `[K]` each: what the task gives, and
    loss, grad_norm, param_norm, rate_scale (of a plateau schedule), finite. A step whose loss or
    gradient is not finite leaves the weights as they were.
    """
    graphdef, _, _ = states.split(model)
    seed = config.seed
    mesh = jax.tree.leaves(placement)[0].mesh
    split, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss(params: PyTree) -> tuple[Array, tuple[Metrics, PyTree]]:
            params = precision.cast(params, config.dtype)
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
        watched = {
            "loss": value,
            "grad_norm": norm,
            "param_norm": optax.tree.norm(new.params),
            "rate_scale": optimizer.plateau_scale(state.opt_state),
            "finite": finite,
        }
        return new, {**metrics, **watched}

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=(placement, whole))
    def update(
        state: TrainState, source: dict[str, Array], chosen: Array | dict[str, Array]
    ) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, chosen: Array | dict[str, Array]) -> tuple[TrainState, Metrics]:
            # Said aloud, since rows that are gathered would else be worked on by every device.
            batch = jax.lax.with_sharding_constraint(feed.take(source, chosen), split)
            return step(state, batch)

        if config.steps_per_call == 1:  # XLA's CPU backend is slow inside a loop, even of one step
            state, metrics = body(state, jax.tree.map(lambda x: x[0], chosen))
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(body, state, chosen)

    return update
