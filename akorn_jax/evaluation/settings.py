"""What `config.eval` means where 0 stands for "as it was"."""

import inspect

from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.errors import UserError


def call_arguments(model: nnx.Module, settings: ConfigDict) -> dict[str, int]:
    """The arguments of the model's call that `config.eval` sets: num_slots, num_iterations.

    Raises:
        UserError: the model takes no such argument, or the number is negative.
    """
    chosen = {name: settings[name] for name in ("num_slots", "num_iterations") if settings[name]}
    known = inspect.signature(type(model).__call__).parameters
    for name, value in chosen.items():
        if name not in known:
            raise UserError(
                f"config.eval.{name}={value}: {type(model).__module__} has no {name}; leave it 0."
            )
        if value < 0:
            raise UserError(
                f"config.eval.{name}={value}: give a positive number, or 0 for its own."
            )
    return chosen


def bounds(settings: ConfigDict) -> tuple[int | None, int | None] | None:
    """(min_objects, max_objects) of `config.eval`; None where both are 0."""
    low, high = settings.min_objects, settings.max_objects
    return (low or None, high or None) if low or high else None
