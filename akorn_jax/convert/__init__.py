"""Official PyTorch weights, in and out.

`python -m akorn_jax.convert --help` converts files.
"""

import importlib
from collections.abc import Mapping

import numpy as np
from flax import nnx

from akorn_jax.convert import layout
from akorn_jax.errors import UserError

# Which module of this package names the arrays of which module of models or layers.
_FAMILIES = {
    "akorn_jax.models.akorn": "akorn",
    "akorn_jax.models.itrsa": "akorn",
}


def load_official(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> None:
    """Fills a model from an official state dict (names to arrays), in place; all of it or nothing.

    Raises:
        UserError: one line with every unknown, missing and misshapen name.
    """
    layout.load(_entries(model), state_dict)


def to_official(model: nnx.Module) -> dict[str, np.ndarray]:
    """The official state dict of a model, the inverse of `load_official`."""
    return layout.save(_entries(model))


def _entries(model: nnx.Module) -> list[layout.Entry]:
    family = _FAMILIES.get(type(model).__module__)
    if family is None:
        raise UserError(
            f"{type(model).__module__} has no official weights; known: {', '.join(_FAMILIES)}."
        )
    return importlib.import_module(f"akorn_jax.convert.{family}").entries(model)
