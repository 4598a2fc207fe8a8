"""`config.model` and `config.task`: a module's arguments with their defaults, or as chosen.

What of them follows others is `computed`.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder


def model(name: str, **chosen: Any) -> ConfigDict:
    """The fields of `akorn_jax.models.NAME.Model`.

    Raises:
        TypeError: an argument that it does not have, or one without default that is not chosen.
    """
    return _fields(f"akorn_jax.models.{name}", "Model", name, chosen)


def task(name: str, **chosen: Any) -> ConfigDict:
    """The fields of `akorn_jax.tasks.NAME.Task`; raises as `model`."""
    return _fields(f"akorn_jax.tasks.{name}", "Task", name, chosen)


class _Operation(NamedTuple):
    """What a `FieldReference` does to its value; `args` are copied with it."""

    fn: Callable[..., float]
    args: tuple[ConfigDict, ...]


def computed(function: Callable[..., float], config: ConfigDict, *names: str) -> FieldReference:
    """A number that follows fields of a config for as long as it is not set itself.

        config.task.geco.goal = computed(lambda size: 1.7 * size**2, config.model, "image_size")

    A saved config has the number.
    """

    def compute(_: float, config: ConfigDict) -> float:
        return float(function(*(config[name] for name in names)))

    return FieldReference(0.0, op=_Operation(compute, (config,)))


def _fields(module: str, exported: str, name: str, chosen: dict[str, Any]) -> ConfigDict:
    made = getattr(importlib.import_module(module), exported)
    config = ConfigDict({"name": name})
    for argument in inspect.signature(made.__init__).parameters.values():
        if argument.name in ("self", "rngs"):
            continue
        value = chosen.pop(argument.name, argument.default)
        if value is inspect.Parameter.empty:
            raise TypeError(f"{module}: {argument.name} has no default; choose it.")
        if isinstance(value, Mapping):
            value = ConfigDict(value)
        config[argument.name] = _unset(argument.annotation) if value is None else value
    if chosen:
        raise TypeError(f"{module} has no arguments {', '.join(chosen)}.")
    return config


def _unset(annotation: Any) -> Any:
    """A field that is None and takes values of its type: `int | None` takes integers."""
    kinds = [k for k in typing.get_args(annotation) or (annotation,) if k is not types.NoneType]
    kind = typing.get_origin(kinds[0]) or kinds[0]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return ConfigDict()
    return placeholder(kind if kind in (int, float, str, bool, tuple) else object)
