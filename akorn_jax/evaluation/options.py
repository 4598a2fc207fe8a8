"""What `config.eval` says of the model's call and of the scenes that count."""

import difflib
import inspect
import math
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
        model: any; `option_ranges` has the least and the largest value of some options by name.
        settings: `config.eval`.
        method: of the model, its call or "sample", for which the call's other options do not count.

    Raises:
        UserError: the model's call takes no such option, or a number is out of its range.
    """
    chosen = dict(settings.options)
    known = _options(model, method)
    ranges = getattr(model, "option_ranges", {})
    of_call_alone = _options(model, "__call__").keys() - known.keys()
    chosen = {name: value for name, value in chosen.items() if name not in of_call_alone}
    for name, value in chosen.items():
        where = f"config.eval.options.{name}={value!r}"
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}."
            raise UserError(f"{where}: {type(model).__module__} has no such option; {hint}")
        if isinstance(known[name], bool) and not isinstance(value, bool):
            raise UserError(f"{where}: give True or False.")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name.startswith("num_"):
            least, _ = ranges.get(name, (1, math.inf))
            if type(value) is not int or value < least:
                raise UserError(
                    f"{where}: give a whole number from {least} on, or leave it out for its own."
                )
        elif name in ranges:
            low, high = ranges[name]
            if not number or not low <= value <= high:
                raise UserError(f"{where}: give a number between {low:g} and {high:g}.")
        elif isinstance(known[name], float) and not (number and math.isfinite(value)):
            raise UserError(f"{where}: give a finite number.")
    return chosen


def _options(model: nnx.Module, method: str) -> dict[str, Any]:
    """The defaults of a method's options."""
    parameters = inspect.signature(getattr(type(model), method)).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in NOT_OPTIONS and parameter.kind is parameter.KEYWORD_ONLY
    }


def bounds(settings: ConfigDict) -> tuple[int | None, int | None] | None:
    """(min_objects, max_objects) of `config.eval`; None where both are 0."""
    low, high = settings.min_objects, settings.max_objects
    return (low or None, high or None) if low or high else None
