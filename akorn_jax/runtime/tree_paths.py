"""Names of the arrays in a pytree, for people and for files."""

from collections.abc import Sequence
from typing import Any

import jax

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
