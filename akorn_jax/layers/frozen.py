"""Parameters that are loaded and never trained, e.g. those of a pretrained encoder."""

from typing import Any

from flax import nnx

FROZEN = "frozen"  # metadata of a parameter


def freeze(module: nnx.Module) -> None:
    """Marks all parameters of a module: they get no gradient, no moments and do not change."""
    for _, variable in nnx.iter_graph(module):
        if isinstance(variable, nnx.Param):
            variable.set_metadata(**{FROZEN: True})


def trainable(path: tuple[Any, ...], variable: Any) -> bool:
    """A filter of `nnx.split`: parameters that are not frozen."""
    del path
    kind = variable.type if hasattr(variable, "type") else type(variable)
    return issubclass(kind, nnx.Param) and not variable.get_metadata().get(FROZEN, False)
