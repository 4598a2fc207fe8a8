"""Parameters that belong to a model but that training leaves as they are."""

from collections.abc import Mapping

from flax import nnx

# Metadata of a parameter, as in `nnx.Param(value, **FROZEN)`.
FROZEN: Mapping[str, bool] = {"frozen": True}


def freeze(module: nnx.Module) -> None:
    """Marks all parameters of a module: they get neither gradients nor optimizer state."""
    for _, variable in nnx.iter_graph(module):
        if isinstance(variable, nnx.Param):
            variable.set_metadata(**FROZEN)


def is_frozen(variable: nnx.Variable) -> bool:
    """Whether `freeze` has marked a variable."""
    return bool(variable.get_metadata().get("frozen", False))
