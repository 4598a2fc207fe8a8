"""The training loop, for every model and task."""

import contextlib
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

from akorn_jax import optimizer, run_config
from akorn_jax.data import batches
from akorn_jax.errors import UserError, compiling
from akorn_jax.layers import precision
from akorn_jax.runtime import processes, progress, sharding, writers
from akorn_jax.runtime.preemption import Outcome, StopSignal
from akorn_jax.tasks.base import Aux, Context, Task
from akorn_jax.training import init_from, train_state
from akorn_jax.training.checkpoint import Checkpoints
from akorn_jax.training.nonfinite import NonFiniteGuard
from akorn_jax.training.periodic_eval import PeriodicEval
from akorn_jax.training.train_metrics import Profiler, TrainMetrics
from akorn_jax.training.train_state import TrainState

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
    stop = StopSignal(config.max_hours)
    check(config)

    # The devices, and what is trained on them
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch_size(config.batch_size, mesh)
    model = train_state.build_model(config.model, config.seed)
    task = train_state.build("tasks", config.task)
    task.check(model, config.num_steps)
    tx, schedule = optimizer.make(config.optimizer, config.num_steps)

    # The data: its order depends on the seed and the step alone
    loader = batches.make(config, task.fields, mesh)

    # The state, from the newest intact checkpoint if there is one
    shapes = jax.eval_shape(lambda: train_state.create(model, tx, task.init_state()))
    placement = sharding.state_sharding(shapes, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints)
    restored = checkpoints.restore_latest(shapes, placement)
    if restored is None:
        init_from.fill(model, config)
        if type(task).init_model is not Task.init_model:
            task.init_model(model, batches.first(config, task.fields))
        state = jax.jit(
            lambda: train_state.create(model, tx, task.init_state()), out_shardings=placement
        )()
        first, seen = 0, {}
    else:
        first, state, seen = restored
        check_resumes(config, first)
        logging.info("Resuming from step %d.", first)
    update = make_update(model, task, tx, config, placement)

    # Logging and evaluation; none of it affects the state, but for a plateau schedule
    writer = writers.create_writer(workdir, first_step=first, wandb_project=config.wandb_project)
    nonfinite = NonFiniteGuard(
        config.skip_nonfinite,
        workdir / "nonfinite.json",
        loader.records,
        checkpoints.describe_latest,
        seen.get("nonfinite", 0),
    )
    metrics = TrainMetrics(config, task.views, schedule, writer, nonfinite)
    periodic_eval = PeriodicEval(config, model, task, mesh, writer)
    profiler = Profiler(workdir, config.profile_at)
    if processes.is_primary():
        run_config.save(config, workdir)  # the directory belongs to the run once it saved a step
        metrics.log_header(first, shapes.params)
    logging.info(
        "Training %s parameters on %d scenes and %d devices, steps %d to %d.",
        f"{sum(leaf.size for leaf in jax.tree.leaves(shapes.params)):,}",
        *(len(loader.records), mesh.size, first, config.num_steps),
    )

    # The loop: dispatch a call, then look at the metrics of the call before it
    done, outcome, pending = first, None, None
    remedy = "change config.model, config.task or config.data"
    first_step, nothing = compiling("the first step", remedy), contextlib.nullcontext()
    with checkpoints, loader, stop, periodic_eval, progress.bar(config.num_steps, first) as bar:
        while done < config.num_steps and outcome is None:
            profiler(done, state.step)
            batch = loader(done, config.steps_per_call)
            with jax.transfer_guard("disallow"), first_step if done == first else nothing:
                state, values = update(state, batch.source, batch.indices)
            if pending is not None:
                metrics(*pending)
            done += config.steps_per_call
            pending = (done, values, batch)
            bar.update(done, loss=metrics.loss)
            metrics.histograms(done, state.params, mesh)
            state = periodic_eval(done, state)
            outcome = stop()
            if done % config.checkpoint_every == 0 or done == config.num_steps or outcome:
                metrics(*pending)  # check metrics before saving
                pending = None
                checkpoints.save(done, state, {"nonfinite": nonfinite.count})
        profiler.close()
        checkpoints.wait()
    writer.close()
    if checkpoints.last_step != done > first:
        remedy = "See whether it answers" if checkpoints.stuck else "Make room"
        raise UserError(
            f"{workdir}: step {done}, the last, could not be saved; "
            f"{checkpoints.describe_latest()}. {remedy} and run the same command again."
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
    if config.optimizer.schedule == "plateau" and not config.eval_every:
        raise UserError(
            "config.optimizer.schedule='plateau' looks at the evaluations during training; set "
            "config.eval_every."
        )


def check_resumes(config: ConfigDict, first: int) -> None:
    """Raises if `steps_per_call` does not divide the resumed step."""
    if first % config.steps_per_call:
        raise UserError(
            f"config.steps_per_call={config.steps_per_call} does not divide step {first}, where "
            "this run resumes; set it to 1."
        )


def make_update(
    model: nnx.Module,
    task: Task,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    placement: PyTree,
) -> Callable[[TrainState, dict[str, Array], Any], tuple[TrainState, Metrics]]:
    """Compiles `steps_per_call` steps: (state, source, indices) to (state, metrics).

    Source and indices are those of `batches.Batches`. Metrics are `[K]` each: what the task gives,
    and loss, grad_norm, param_norm, rate_scale (of a plateau schedule), finite. A step whose loss
    or gradient is not finite changes nothing but the step.
    """
    graphdef, _, _ = train_state.split(model)
    seed = config.seed
    mesh = jax.tree.leaves(placement)[0].mesh
    split, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        ctx = Context(state.step, key, state.task, train=True)

        def loss(params: PyTree) -> tuple[Array, tuple[Aux, PyTree]]:
            params = precision.cast(params, config.dtype)
            model = nnx.merge(graphdef, params, state.buffers, copy=True)  # it may change itself
            value, aux = task.loss(model, batch, ctx)
            _, _, buffers = train_state.split(model)
            return value, (aux, buffers)

        (value, (aux, buffers)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optimizer.ema_update(state.ema, (params, buffers), state.step, **config.ema)

        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        new = TrainState(state.step, params, buffers, opt_state, ema, state.task)
        new = task.after_step(new, aux, jax.random.fold_in(key, 1))
        new = jax.tree.map(lambda n, old: jnp.where(finite, n, old), new, state)
        new = dataclasses.replace(new, step=state.step + 1)
        logged = {
            "loss": value,
            "grad_norm": norm,
            "param_norm": optax.tree.norm(new.params),
            "rate_scale": optimizer.plateau_scale(state.opt_state),
            "finite": finite,
        }
        return new, {**aux.metrics, **logged}

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=(placement, whole))
    def update(
        state: TrainState, source: dict[str, Array], indices: Array | dict[str, Array]
    ) -> tuple[TrainState, Metrics]:
        def body(
            state: TrainState, indices: Array | dict[str, Array]
        ) -> tuple[TrainState, Metrics]:
            # Constrain explicitly: XLA would otherwise replicate the gathered rows.
            batch = batches.gather_batch(source, indices)
            return step(state, jax.lax.with_sharding_constraint(batch, split))

        if config.steps_per_call == 1:  # XLA's CPU backend is slow inside a loop, even of one step
            state, metrics = body(state, jax.tree.map(lambda x: x[0], indices))
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(body, state, indices)

    return update
