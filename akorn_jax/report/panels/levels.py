"""Part-whole hierarchies: the vectors of each level as colours, and their islands, step by step."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.evaluation import islands
from akorn_jax.evaluation.plots import PALETTE
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scenes
from akorn_jax.report.run import Run

TITLE, ORDER = "Levels", 15


def applies(output: ModelOutput) -> bool:
    """Whether the model has levels."""
    return "levels" in (output.trajectory or {})


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """Films of the scenes' levels; the colours are one projection of all that is shown."""
    del run
    levels = np.stack([output.trajectory["levels"][0] for output in outputs.values()])
    levels = levels.astype(np.float32)  # [B, T, h, w, L, D]
    colors = islands.colors(levels)  # [B, T, h, w, L, 3]
    right, below = (np.asarray(cosines) for cosines in islands.cosines(levels))
    found = [islands.islands(*maps) for maps in zip(right, below, strict=True)]  # [T, L, h, w] each
    num_steps, num_levels = levels.shape[1], levels.shape[4]
    return {
        "names": [f"step {t}" for t in range(1, num_steps + 1)],
        "num_levels": num_levels,
        "agree": islands.AGREE,
        "scenes": [
            {
                "index": index,
                "image": scenes.picture(scenes.shrink_image(examples.images[index])),
                "levels": [scenes.film(colors[place, ..., l, :]) for l in range(num_levels)],
                "islands": [scenes.film(_colorize(found[place][:, l])) for l in range(num_levels)],
                "counts": [int(found[place][-1, l].max()) + 1 for l in range(num_levels)],
            }
            for place, index in enumerate(outputs)
        ],
    }


def _colorize(labels: np.ndarray) -> np.ndarray:
    """Islands `[T, h, w]` as colours `[T, h, w, 3]`: the largest of the last step light gray, the
    others in turn; at earlier steps an island has the colour of its first column at the end."""
    last = labels[-1]
    order = np.argsort(-np.bincount(last.ravel()), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    names = rank[last]  # [h, w]
    frames = []
    for frame in labels:
        _, first, inverse = np.unique(frame, return_index=True, return_inverse=True)
        frames.append(names.ravel()[first][inverse].reshape(frame.shape))
    ranks = np.stack(frames)
    return PALETTE[np.where(ranks == 0, 0, 1 + (ranks - 1) % (len(PALETTE) - 1))]
