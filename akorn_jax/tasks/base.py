"""The contract of a task: it turns the step and a state of its own into numbers for the model."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.optimizer import schedules
from akorn_jax.outputs import ModelOutput

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Context:
    """When and under what a model is called.

    Attributes:
        step: `[]` int32, updates made before this one; at evaluation those of the checkpoint.
        key: of this step.
        state: the task's own, as `Task.init_state` made it and `Task.after_step` changed it.
        train: whether this is a training step; a Python bool, so static under jit.
    """

    step: Array
    key: Array
    state: PyTree = ()
    train: bool = False

    def with_key(self, key: Array) -> "Context":
        """The same with another key."""
        return dataclasses.replace(self, key=key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Aux:
    """What a loss gives besides its value.

    Attributes:
        metrics: scalars by name, averaged over `log_every` steps and logged.
        extra: arrays for `Task.after_step`.
    """

    metrics: dict[str, Array] = dataclasses.field(default_factory=dict)
    extra: PyTree = ()


class Task(abc.ABC):
    """An objective. `akorn_jax/tasks/NAME.py` exports one as `Task`.

    A model sees arrays, never the step. A task gives it call options (temperatures, priors) that
    follow schedules, and weighs the terms that it returns.

    Attributes:
        inputs: the field of a batch that the model is called with: "image", "video", "features".
        fields: all fields of a batch that the task reads.
        views: images that the network sees for each scene.
        evaluators: modules of akorn_jax/evaluation that score the model;
            `config.eval.evaluators` overrides them.
    """

    inputs: str = "image"
    fields: tuple[str, ...] = ("image",)
    views: int = 1
    evaluators: tuple[str, ...] = ("segmentation",)

    def __init__(self, *, options: Mapping[str, Any] | None = None) -> None:
        """Reads the schedules of the model's call options: name -> number or schedule."""
        self._options = {
            name: schedules.make(spec, f"config.task.options.{name}")
            for name, spec in (options or {}).items()
        }

    def init_state(self) -> PyTree:
        """The task's own state before the first step; a pytree of arrays, checkpointed."""
        return ()

    def init_model(self, model: nnx.Module, batch: Mapping[str, Array]) -> None:  # noqa: B027
        """Changes a fresh run's initial weights, in place, after a look at the first batch."""

    def check(self, model: nnx.Module, num_steps: int) -> None:
        """Refuses options that leave the ranges `model.option_ranges`, where it states some.

        Args:
            model: `option_ranges` has a least and a largest value by the option's name.
            num_steps: of the run.

        Raises:
            UserError: an option does so at some step.
        """
        for name, (low, high) in getattr(model, "option_ranges", {}).items():
            if name not in self._options:
                continue
            values = self._options[name](np.arange(num_steps))
            wrong = np.flatnonzero(~((low <= values) & (values <= high)))
            if len(wrong):
                raise UserError(
                    f"config.task.options.{name} is {values[wrong[0]]:g} at step {wrong[0]}; it "
                    f"must lie between {low:g} and {high:g}."
                )

    def options(self, ctx: Context) -> dict[str, Array]:
        """The numbers that the model is called with at a step."""
        return {name: schedule(ctx.step) for name, schedule in self._options.items()}

    def apply(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: Context, **options: Any
    ) -> ModelOutput:
        """Calls the model on `batch[self.inputs]`: the only place where a model is called.

        Args:
            model: any; images are given to it in [0, 1].
            batch: fields `[B, ...]`; images as uint8.
            ctx: see `Context`; `ctx.key` goes to the model.
            options: override those of `options`, e.g. `trajectory=True`, `num_slots=11`.
        """
        inputs = batch[self.inputs]
        if inputs.dtype == jnp.uint8:
            inputs = inputs.astype(jnp.float32) / 255
        return model(inputs, key=ctx.key, train=ctx.train, **{**self.options(ctx), **options})

    @abc.abstractmethod
    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: Context
    ) -> tuple[Array, Aux]:
        """The scalar that is minimised."""

    def after_step(self, state: PyTree, aux: Aux, key: Array) -> PyTree:
        """The train state (`training.train_state.TrainState`) after an update, changed or not.

        It runs inside the compiled step and under its rule that a step with a non-finite loss or
        gradient changes nothing.
        """
        del aux, key
        return state
