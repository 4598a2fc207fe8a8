"""Scores of the averaged weights on a few held-out scenes, during training."""

import collections
import concurrent.futures
import dataclasses
from typing import Any

import jax
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import optimizer
from akorn_jax.data import batches, records
from akorn_jax.evaluation import base, plots
from akorn_jax.layers import precision
from akorn_jax.runtime import processes, sharding
from akorn_jax.tasks.base import Context, Task
from akorn_jax.training import train_state
from akorn_jax.training.train_state import TrainState

Array = jax.Array
PyTree = Any

MAX_BEHIND = 4  # evaluations that may be under way; each holds a copy of the weights


class PeriodicEval:
    """Called after every call of the compiled step; use as a context manager, which waits.

    The loss of the scenes is computed by all devices, between two steps. Everything else is done
    by process 0 in a thread, from a copy of the weights: its first device makes features, and
    another process clusters them.

    Args:
        config: `eval_every`, `eval_split`, `eval_scenes` and `eval`.
        model: whose weights are evaluated.
        task: gives the loss and says what is scored.
        mesh: the devices.
        writer: a CLU metric writer.

    Raises:
        UserError: the protocol has no such scenes.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: nnx.Module,
        task: Task,
        mesh: jax.sharding.Mesh,
        writer: Any,
    ) -> None:
        self._every = config.eval_every
        if not self._every:
            return
        self._config = config.copy_and_resolve_references()
        self._config.eval.baselines = False
        self._config.eval.num_workers = 1
        self._graphdef, _, _ = train_state.split(model)
        self._task, self._mesh, self._writer = task, mesh, writer
        self._examples = _few(config)
        self._evaluators = base.make(self._config, task)
        arrays = batches.fields(self._examples, task.fields)
        everywhere = sharding.replicated(mesh)
        self._batch = {
            name: jax.make_array_from_callback(array.shape, everywhere, array.__getitem__)
            for name, array in arrays.items()
        }
        self._loss = jax.jit(self._compute_loss, out_shardings=everywhere)
        self._observe = jax.jit(optimizer.observe, donate_argnums=0)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "evaluation")
        self._pending: collections.deque[concurrent.futures.Future] = collections.deque()

    def __call__(self, done: int, state: TrainState) -> TrainState:
        """Every `eval_every` steps: starts an evaluation, and tells a plateau schedule the loss."""
        if not self._every or done % self._every:
            return state
        loss = self._loss(state.ema, state.task, state.step, self._batch)
        if self._config.optimizer.schedule == "plateau":
            state = dataclasses.replace(state, opt_state=self._observe(state.opt_state, loss))
        weights = sharding.gather((state.ema, state.task), self._mesh)
        if processes.is_primary():
            while len(self._pending) >= MAX_BEHIND:
                self._pending.popleft().result()
            self._pending.append(self._thread.submit(self._evaluate, done, weights, loss))
        return state

    def __enter__(self) -> "PeriodicEval":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if not self._every:
            return
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for evaluation in self._pending:
                evaluation.result()

    def _compute_loss(
        self, ema: tuple[PyTree, PyTree], task_state: PyTree, step: Array, batch: dict[str, Array]
    ) -> Array:
        params, buffers = ema
        params = precision.cast(params, self._config.dtype)
        model = nnx.merge(self._graphdef, params, buffers, copy=True)
        ctx = Context(step, jax.random.key(self._config.eval.seed), task_state)
        loss, _ = self._task.loss(model, batch, ctx)
        return loss

    def _evaluate(
        self, done: int, weights: tuple[tuple[PyTree, PyTree], PyTree], loss: Array
    ) -> None:
        ema, task_state = weights
        models = {"trained": nnx.merge(self._graphdef, *ema)}
        examples = self._examples
        result = base.evaluate(
            *(models, self._task, examples, self._config),
            step=done,
            task_state=task_state,
            evaluators=self._evaluators,
        )
        scores = {f"eval/{name}": score for name, score in result.scalars().items()}
        self._writer.write_scalars(done, {"eval/loss": float(loss), **scores})
        for remark in result.summary.get("remarks", ()):
            logging.warning("Step %d: %s", done, remark)
        if result.labels is not None:
            picture = plots.pixels(plots.result(result, examples))
            self._writer.write_images(done, {"eval/segmentation": picture})
        for name, picture in result.pictures.items():
            self._writer.write_images(done, {f"eval/{name}": plots.pixels(picture)})


def _few(config: ConfigDict) -> records.Examples:
    """The first `eval_scenes` scenes of a part."""
    few = dict(config.data)
    if few[config.eval_split] is not None:
        start, stop = few[config.eval_split]
        last = start + config.eval_scenes
        few[config.eval_split] = (start, last if stop is None else min(stop, last))
    return records.load(few, config.eval_split, config.data_dir)
