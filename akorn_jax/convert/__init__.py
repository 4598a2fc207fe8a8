"""Official PyTorch weights, in and out.

The weight map of `models/NAME.py` (or `layers/NAME.py`) is `convert/NAME.py`, found by name. It has
`entries(model, dialect)`, and `dialect(names)` where several repositories name the same arrays
differently. `python -m akorn_jax.convert --help` converts files.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import ModuleType

import numpy as np
from flax import nnx

from akorn_jax.convert import layout
from akorn_jax.errors import UserError

NOT_MAPS = ("__main__", "files", "layout", "parts")


def load_official(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> None:
    """Fills a model from an official state dict (names to arrays), in place; all of it or nothing.

    Raises:
        UserError: one line with every unknown, missing and misshapen name.
    """
    layout.load(_entries(model, state_dict), state_dict)


def to_official(model: nnx.Module, dialect: str | None = None) -> dict[str, np.ndarray]:
    """The official state dict of a model, the inverse of `load_official`.

    Args:
        model: one that has a weight map.
        dialect: whose names to use where repositories differ; the map's default if None.
    """
    names = weight_map(model)
    return layout.save(names.entries(model) if dialect is None else names.entries(model, dialect))


def known() -> list[str]:
    """The names of all weight maps."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in NOT_MAPS)


def _entries(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> list[layout.Entry]:
    names = weight_map(model)
    if not hasattr(names, "dialect"):
        return names.entries(model)
    return names.entries(model, names.dialect(state_dict))


def weight_map(model: nnx.Module) -> ModuleType:
    """The module of this package that names the arrays of a model (or layer).

    Raises:
        UserError: there is none.
    """
    module = type(model).__module__
    name = module.rpartition(".")[2]
    if name not in known():
        raise UserError(f"{module} has no official weights; known: {', '.join(known())}.")
    return importlib.import_module(f"akorn_jax.convert.{name}")
