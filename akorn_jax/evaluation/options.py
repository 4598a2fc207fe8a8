"""What `config.eval` says of the model's call and of the scenes that count."""

import difflib
import inspect
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.errors import UserError

NOT_OPTIONS = ("key", "train", "trajectory", "library")


def call_options(
    model: nnx.Module, settings: ConfigDict, method: str = "__call__"
) -> dict[str, Any]:
    """The options of a model's call that `config.eval.options` sets, e.g. num_slots.

    Args:
        model: any.
        settings: `config.eval`.
        method: of the model, its call or "sample", for which the call's other options do not count.

    Raises:
        UserError: the model's call takes no such option, or a number is out of its range.
    """
    chosen = dict(settings.options)
    known = _names(model, method)
    ranges = getattr(model, "option_ranges", {})
    of_call_alone = set(_names(model, "__call__")) - set(known)
    chosen = {name: value for name, value in chosen.items() if name not in of_call_alone}
    for name, value in chosen.items():
        where = f"config.eval.options.{name}={value!r}"
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}."
            raise UserError(f"{where}: {type(model).__module__} has no such option; {hint}")
        if name.startswith("num_") and (not isinstance(value, int) or value < 1):
            raise UserError(f"{where}: give a positive number, or leave it out for its own.")
        if name in ranges:
            low, high = ranges[name]
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"{where}: give a number between {low:g} and {high:g}.")
    return chosen


def _names(model: nnx.Module, method: str) -> list[str]:
    parameters = inspect.signature(getattr(type(model), method)).parameters
    return [
        name
        for name, parameter in parameters.items()
        if name not in NOT_OPTIONS and parameter.kind is parameter.KEYWORD_ONLY
    ]


def bounds(settings: ConfigDict) -> tuple[int | None, int | None] | None:
    """(min_objects, max_objects) of `config.eval`; None where both are 0."""
    low, high = settings.min_objects, settings.max_objects
    return (low or None, high or None) if low or high else None
