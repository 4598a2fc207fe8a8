"""Names of the arrays in a pytree, for people, for files and for changes by name."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

Array = jax.Array
PyTree = Any


def path_name(path: Sequence[Any], separator: str = "/") -> str:
    """`encoder/layers/0/kernel` of a key path.

    An NNX variable is a pytree of one leaf, which shows as a last attribute `value`: left out.
    """
    last = path[-1] if path else None
    if len(path) > 1 and isinstance(last, jax.tree_util.GetAttrKey) and last.name == "value":
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator=separator)


def by_name(tree: PyTree, separator: str = "/") -> dict[str, Any]:
    """The leaves by their names, in the order of `jax.tree.leaves`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {path_name(path, separator): leaf for path, leaf in leaves}
    assert len(named) == len(leaves), "two leaves have the same name"
    return named


def edit(tree: PyTree, name: str, change: Callable[[Array], Array]) -> PyTree:
    """Changes a parameter and whatever has its path and shape: its average, its moments.

    Args:
        tree: a `TrainState` or a part of one.
        name: the parameter's path, e.g. "sprites/kernel".
        change: from an array to an array of the same shape.

    Raises:
        ValueError: nothing has this path.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    found = [("/" + path_name(path)).endswith("/" + name) for path, _ in leaves]
    if not any(found):
        raise ValueError(f"{name!r}: no array has this path; there is {path_name(leaves[0][0])!r}.")
    return treedef.unflatten(
        change(leaf) if chosen else leaf for chosen, (_, leaf) in zip(found, leaves, strict=True)
    )
