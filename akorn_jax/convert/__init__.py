"""Official PyTorch weights, in and out.

`python -m akorn_jax.convert --help` converts files.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType

import numpy as np
from flax import nnx

from akorn_jax.convert import layout
from akorn_jax.errors import UserError

# Which module of this package names the arrays of which module of models or layers.
_FAMILIES = {
    "akorn_jax.models.akorn": "akorn",
    "akorn_jax.models.itrsa": "akorn",
    "akorn_jax.layers.slot_attention": "slot_attention",
    "akorn_jax.models.slot_attention": "slot_attention",
    "akorn_jax.models.set_prediction": "slot_attention",
}


def load_official(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> None:
    """Fills a model from an official state dict (names to arrays), in place; all of it or nothing.

    Raises:
        UserError: one line with every unknown, missing and misshapen name.
    """
    family = _family(model)
    if hasattr(family, "dialect"):
        dialect = family.dialect(state_dict)
        layout.load(family.entries(model, dialect), state_dict)
        model.dialect = dialect
    else:
        layout.load(family.entries(model), state_dict)


def to_official(model: nnx.Module) -> dict[str, np.ndarray]:
    """The official state dict of a model, the inverse of `load_official`.

    Where repositories name the same arrays differently, a model answers in the names that it was
    loaded by.
    """
    family = _family(model)
    return layout.save(
        family.entries(model, model.dialect) if hasattr(model, "dialect") else family.entries(model)
    )


def _family(model: nnx.Module) -> ModuleType:
    family = _FAMILIES.get(type(model).__module__)
    if family is None:
        raise UserError(
            f"{type(model).__module__} has no official weights; known: {', '.join(_FAMILIES)}."
        )
    return importlib.import_module(f"akorn_jax.convert.{family}")
