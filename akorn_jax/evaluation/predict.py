"""The forward pass of every evaluation and report: one batching, one rule for keys."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data import batches
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError, compiling
from akorn_jax.evaluation import options, up_tiling
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Context, Task

Array = jax.Array
PyTree = Any
Reduce = Callable[[ModelOutput, Mapping[str, Array]], PyTree]

REMEDY = "change config.eval.options, config.model or config.data"


def predict(
    model: nnx.Module,
    task: Task,
    examples: Examples,
    config: ConfigDict,
    *,
    reduce: Reduce,
    step: int = 0,
    task_state: PyTree = (),
    indices: Sequence[int] | None = None,
    trajectory: bool = False,
    starts: int | None = None,
    first: int = 0,
) -> Iterator[PyTree]:
    """Runs a model on examples, batch by batch, and keeps of each what `reduce` gives.

    Example i's randomness depends on (eval.seed, i, eval.batch_size) alone. The last batch is
    filled up with its last example, and cut off again. The device works on the next batch while
    the caller looks at the last.

    Args:
        model: any.
        task: calls it.
        examples: N of them.
        config: `config.eval` has batch_size, seed, options (of the model's call) and up_tiling: a
            forward pass for each of factor^2 shifted tiles, for features.
        reduce: (output, batch) to a pytree of arrays `[B, ...]`; runs inside jit.
        step, task_state: those of the checkpoint.
        indices: run only the batches that hold these examples, whole, since what is random in a
            model depends on its batch; give only their rows, in ascending order of index.
        trajectory: also give `reduce` what happened inside, step by step.
        starts: run each batch so often, one after the other, with other keys; the first run is that
            of one start.
        first: what number the first example counts as, where they are a part of more; a multiple
            of the batch size.

    Yields:
        Per batch, the arrays on the host, `[B, ...]`, or `[B, starts, ...]`.

    Raises:
        UserError: the options or the up-tiling do not fit the model.
    """
    chosen = options.call_options(model, config.eval)
    factor = config.eval.up_tiling
    if factor != 1:
        _check_up_tiling(model, factor)
    if trajectory:
        chosen["trajectory"] = True
    graphdef, state = nnx.split(model)
    static = tuple(sorted(chosen.items()))
    key, size = jax.random.key(config.eval.seed), config.eval.batch_size
    arrays = batches.fields(examples, (task.inputs,))
    wanted = np.arange(len(examples)) if indices is None else np.unique(indices)
    last = None
    for start in sorted(set((wanted // size * size).tolist())):
        rows = np.minimum(np.arange(start, start + size), len(examples) - 1)
        batch = {name: array[rows] for name, array in arrays.items()}
        ctx = (jnp.asarray(step, jnp.int32), jax.random.fold_in(key, first + start), task_state)
        with compiling("the model's call", REMEDY):
            output = _forward(graphdef, task, reduce, factor, starts, static, state, batch, ctx)
        if last is not None:
            yield _rows(*last)
        last = output, wanted[(wanted >= start) & (wanted < start + size)] - start
    if last is not None:
        yield _rows(*last)


def _rows(output: PyTree, rows: np.ndarray) -> PyTree:
    """Some rows on the host; the device would compile a program for every shape to choose them."""
    return jax.tree.map(lambda array: array[rows], jax.device_get(output))


def collect(kept: Iterator[PyTree]) -> PyTree:
    """What `predict` yields, in one: `[N, ...]`."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *kept)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _forward(
    graphdef: nnx.GraphDef,
    task: Task,
    reduce: Reduce,
    factor: int,
    starts: int | None,
    static: tuple[tuple[str, Any], ...],
    state: nnx.State,
    batch: dict[str, Array],
    ctx: tuple[Array, Array, PyTree],
) -> PyTree:
    """A batch; compiled once for a model's structure and settings."""
    model = nnx.merge(graphdef, state)
    context = Context(*ctx, train=False)

    def once(key: Array) -> PyTree:
        return reduce(task.apply(model, batch, context.with_key(key), **dict(static)), batch)

    if starts is not None:
        others = jax.vmap(jax.random.fold_in, (None, 0))(context.key, jnp.arange(1, starts))
        found = jax.lax.map(once, jnp.concatenate([context.key[None], others]))
        return jax.tree.map(lambda array: jnp.swapaxes(array, 0, 1), found)
    if factor == 1:
        return once(context.key)
    images = batch[task.inputs].astype(jnp.float32) / 255
    tiles = up_tiling.tiles(images, factor, model.patches.patch_size)
    keys = jax.random.split(context.key, len(tiles))

    def features(tile: tuple[Array, Array]) -> Array:
        images, key = tile
        return task.apply(
            model, {task.inputs: images}, context.with_key(key), **dict(static)
        ).features

    found = up_tiling.interleave(jax.lax.map(features, (tiles, keys)))
    return reduce(ModelOutput(features=found), batch)


def _check_up_tiling(model: nnx.Module, factor: int) -> None:
    setting = f"config.eval.up_tiling={factor}"
    if not hasattr(model, "patches"):
        raise UserError(
            f"{setting}: {type(model).__module__} has no patches, it tells pixels apart; use 1."
        )
    size = model.patches.patch_size
    if factor < 1 or size % factor:
        raise UserError(f"{setting}: does not divide the patches' {size} pixels; use a divisor.")
