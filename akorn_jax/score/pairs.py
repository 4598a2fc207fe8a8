"""Scores of pairs of label maps by all conventions; worker processes import this, and no JAX."""

from collections.abc import Mapping, Sequence

import numpy as np

from akorn_jax import metrics
from akorn_jax.errors import UserError
from akorn_jax.score import conventions
from akorn_jax.score.label_maps import VOID, Source

Array = np.ndarray
Pair = tuple[str, Source, Source]  # name, truth, prediction
Scores = Mapping[str, Array]  # convention -> the scores of images, frames or objects


def score_pairs(
    pairs: Sequence[Pair],
    background_ids: Sequence[int],
    ignore_ids: Sequence[int],
    skip_bad: bool,
) -> list[Scores | str]:
    """The scores of each pair, or in its place what is wrong with it.

    Raises:
        UserError: something is wrong with one, and `skip_bad` is not set.
    """
    found: list[Scores | str] = []
    for name, true, pred in pairs:
        try:
            found.append(score_pair(name, true.load(), pred.load(), background_ids, ignore_ids))
        except UserError as error:
            if not skip_bad:
                raise
            found.append(str(error))
    return found


def score_pair(
    name: str,
    true: Array,
    pred: Array,
    background_ids: Sequence[int],
    ignore_ids: Sequence[int],
) -> Scores:
    """The scores of a pair of images `[H, W]` or videos `[T, H, W]`, whose frames are images.

    Raises:
        UserError: their shapes differ.
    """
    if true.shape != pred.shape:
        raise UserError(
            f"{name}: the truth is {list(true.shape)}, the prediction {list(pred.shape)}; "
            "resize one."
        )
    ignore_ids = (*ignore_ids, VOID)
    frames = [(true, pred)] if true.ndim == 2 else list(zip(true, pred, strict=True))
    tables = [metrics.contingency(t, p, ignore_ids) for t, p in frames]
    video = [metrics.contingency(true, pred, ignore_ids)] if true.ndim == 3 else []
    scores = {
        convention: [rule.score(table, background_ids) for table in of]
        for convention, rule in conventions.CONVENTIONS.items()
        if (of := video if rule.of_videos else tables)
    }
    scores[conventions.BOUNDARY] = [conventions.boundary_f(t, p) for t, p in frames]
    return {name: np.concatenate([np.atleast_1d(s) for s in v]) for name, v in scores.items()}
