"""Variants of recipes: `--config=recipe.py:a,b`."""

from akorn_jax.errors import UserError


def choose(variant: str, known: tuple[str, ...]) -> set[str]:
    """The variants of a recipe that `--config=recipe.py:a,b` names.

    Raises:
        UserError: for one that the recipe does not have.
    """
    chosen = {name for name in variant.split(",") if name}
    for name in sorted(chosen - set(known)):
        raise UserError(f"variant {name!r} is unknown; this recipe has {', '.join(known)}.")
    return chosen
