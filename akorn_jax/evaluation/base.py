"""The contract of an evaluator, and how evaluators are found and run."""

import abc
import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import evaluation
from akorn_jax.data import records
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation.predict import predict
from akorn_jax.evaluation.result import Result
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Task

Array = jax.Array
PyTree = Any

# Modules of this package that score nothing by themselves.
TOOLS = [
    "attacks",
    "base",
    "baselines",
    "clustering",
    "dci",
    "matching",
    "object_codes",
    "options",
    "pictures",
    "plots",
    "predict",
    "result",
    "slot_health",
    "up_tiling",
    "workers",
]


@dataclasses.dataclass(frozen=True)
class Called:
    """A model and what it is called with.

    Attributes:
        model: with a checkpoint's averaged weights.
        task: calls it.
        ctx: (step, state of the task) of the checkpoint.
    """

    model: nnx.Module
    task: Task
    ctx: tuple[Array, PyTree]


class Evaluator(abc.ABC):
    """Scores a model. `akorn_jax/evaluation/NAME.py` exports one as `Evaluator`.

    Args:
        config: of the run; `config.eval` has what may be set.
        task: of the run.

    Attributes:
        trajectory: whether `reduce` is to see what happened inside the model, step by step.
        reference: a part of the protocol, e.g. "train", that `fit` is to see first; "" is none.
        starts: how often each example is run, from other random numbers; `score` then sees arrays
            `[B, starts, ...]`. None: once, and `[B, ...]`.
    """

    trajectory: bool = False
    reference: str = ""
    starts: int | None = None

    def __init__(self, config: ConfigDict, task: Task) -> None:
        self.config = config
        self.task = task

    def look(self, called: Called, other: Called | None) -> None:  # noqa: B027
        """Sees the model itself before anything else, for what its outputs do not tell.

        Args:
            called: the trained model.
            other: that of `config.eval.robustness.transfer_from`; None where none is named.
        """

    @abc.abstractmethod
    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What is kept of a batch, `[B, ...]` by name; runs inside jit.

        Args:
            output: of the model for the batch.
            batch: the fields of the task's inputs, as stored (images are uint8).
        """

    def fit(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> None:
        """Looks at the part `reference`, before `score`; the arguments are as there."""
        raise NotImplementedError(f"{type(self)} has a reference and does not look at it")

    @abc.abstractmethod
    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores on the host.

        Args:
            kept: of each model by name ("trained" first, "untrained"), what `reduce` kept, batch by
                batch, without what filled up the last.
            examples: the N scenes. Where they lack the truth, the result has no scores.
        """


def names() -> list[str]:
    """The evaluators that there are."""
    found = {module.name for module in pkgutil.iter_modules(evaluation.__path__)}
    return sorted(found - set(TOOLS))


def chosen(config: ConfigDict, task: Task) -> list[str]:
    """The evaluators of a run: those of `config.eval.evaluators`, or else of the task.

    Raises:
        UserError: one that does not exist.
    """
    wanted = [name for name in config.eval.evaluators.split(",") if name] or list(task.evaluators)
    for name in wanted:
        if name not in names():
            raise UserError(
                f"config.eval.evaluators={config.eval.evaluators!r}: {name!r} is unknown; there "
                f"are {', '.join(names())}."
            )
    return wanted


def evaluate(
    models: Mapping[str, nnx.Module],
    task: Task,
    examples: Examples,
    config: ConfigDict,
    *,
    step: int,
    task_state: PyTree = (),
    evaluators: Sequence[Evaluator] | None = None,
    other: Called | None = None,
) -> Result:
    """Scores `models["trained"]` beside the other models by all evaluators of the run.

    Args:
        models: by name, "trained" first; all of one structure.
        task: calls them.
        examples: N scenes.
        config: of the run.
        step, task_state: those of the checkpoint.
        evaluators: of `make`, where they are at hand: a later call compiles nothing then.
        other: see `Evaluator.look`.

    Raises:
        UserError: an evaluator does not exist, or the settings do not fit the model.
    """
    results = []
    called = Called(models["trained"], task, (jnp.asarray(step, jnp.int32), task_state))
    for evaluator in make(config, task) if evaluators is None else evaluators:
        evaluator.look(called, other)

        def run(examples: Examples, evaluator: Evaluator = evaluator) -> dict[str, Iterator]:
            return {
                method: predict(
                    *(model, task, examples, config),
                    step=step,
                    task_state=task_state,
                    reduce=evaluator.reduce,
                    trajectory=evaluator.trajectory,
                    starts=evaluator.starts,
                )
                for method, model in models.items()
            }

        if evaluator.reference:
            reference = records.load(config.data, evaluator.reference, config.data_dir)
            evaluator.fit(run(reference), reference)
        results.append(evaluator.score(run(examples), examples))
    return combined(results)


def make(config: ConfigDict, task: Task) -> list[Evaluator]:
    """The evaluators of a run; raises as `chosen`."""
    modules = [
        importlib.import_module(f"akorn_jax.evaluation.{name}") for name in chosen(config, task)
    ]
    return [module.Evaluator(config, task) for module in modules]


def combined(results: Sequence[Result]) -> Result:
    """One result of several evaluators; where two give the same name, the first counts."""
    first = results[0]
    for result in results[1:]:
        methods = {
            name: result.methods.get(name, {}) | first.methods.get(name, {})
            for name in {**first.methods, **result.methods}
        }
        baselines = {
            name: result.summary.get("baselines", {}).get(name, {}) | scores
            for name, scores in {
                **result.summary.get("baselines", {}),
                **first.summary.get("baselines", {}),
            }.items()
        }
        first = Result(
            summary={**result.summary, **first.summary, "baselines": baselines},
            columns={**first.columns, **result.columns},
            methods=methods,
            notes=(*first.notes, *result.notes),
            per_image={**result.per_image, **first.per_image},
            labels=result.labels if first.labels is None else first.labels,
            files={**result.files, **first.files},
            pictures={**result.pictures, **first.pictures},
            logged=(*first.logged, *result.logged),
        )
    return first
