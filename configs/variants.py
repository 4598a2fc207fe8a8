"""Variants of recipes: `--config=recipe.py:a,b`."""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import protocols

FOLDER = "folder"  # pictures of one's own


def choose(variant: str, known: tuple[str, ...]) -> set[str]:
    """The variants of a recipe that `--config=recipe.py:a,b` names.

    Raises:
        UserError: for one that the recipe does not have.
    """
    chosen = {name for name in variant.split(",") if name}
    for name in sorted(chosen - set(known)):
        own = ", ".join(known) or "none of its own"
        raise UserError(
            f"variant {name!r} is unknown; this recipe has {own}; those that find objects also "
            f"have {FOLDER}."
        )
    return chosen


def discovery(get_config: Callable[[str], ConfigDict]) -> Callable[[str], ConfigDict]:
    """Gives a recipe that needs nothing but pictures the variant `folder`, beside its own."""

    @functools.wraps(get_config)
    def with_folder(variant: str = "") -> ConfigDict:
        names = variant.split(",")
        if FOLDER in names and "procedural" in names:
            raise UserError(f"variants {FOLDER} and procedural exclude each other; choose one.")
        config = get_config(",".join(name for name in names if name != FOLDER))
        if FOLDER in names:
            protocols.use_folder(config)
        return config

    return with_folder
