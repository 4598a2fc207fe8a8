"""Everything that training changes, and how it is made from a config."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from akorn_jax.layers import frozen

Array = jax.Array
PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree of arrays; a checkpoint is one of these.

    Attributes:
        step: updates made so far, `[]` int32.
        params: what is trained.
        buffers: the rest of the model's state, e.g. running statistics.
        opt_state: the optimizer's.
        ema: moving averages of (params, buffers): what is evaluated.
        task: the task's own, e.g. a multiplier that it adapts; `()` for most.
    """

    step: Array
    params: PyTree
    buffers: PyTree
    opt_state: PyTree
    ema: tuple[PyTree, PyTree]
    task: PyTree = ()


def build(kind: str, config: Mapping[str, Any], **kwargs: Any) -> Any:
    """Makes the `Model` or `Task` that a config names.

    A name is a module: `config.name = "akorn"` under kind "models" is `akorn_jax.models.akorn`,
    whose `Model` takes the other fields as its arguments.

    Raises:
        UserError: if there is no such module, or it refuses the fields.
    """
    fields = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    name = fields.pop("name")
    where = f"config.{kind.removesuffix('s')}"
    module = f"akorn_jax.{kind}.{name}"
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{where}.name={name!r}: there is no module {module}.")
    exported = {"models": "Model", "tasks": "Task"}[kind]
    try:
        return getattr(importlib.import_module(module), exported)(**fields, **kwargs)
    except UserError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{where}: {error}") from error


def build_model(config: Mapping[str, Any], seed: int) -> nnx.Module:
    """The model of `config.model` with the initial weights of a seed."""
    return build("models", config, rngs=nnx.Rngs(seed))


def split(model: nnx.Module) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """A model as (structure, params, buffers); `nnx.merge` puts them together again.

    Frozen parameters (`layers/frozen.py`) are buffers: they have no gradient and no moments.
    """
    return nnx.split(model, frozen.trainable, ...)


def create(
    model: nnx.Module, optimizer: optax.GradientTransformation, task_state: PyTree = ()
) -> TrainState:
    """The state before the first step; the average starts as a copy."""
    _, params, buffers = split(model)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        buffers=buffers,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, (params, buffers)),
        task=task_state,
    )
