"""From one scene to another along the line between their global latents."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scenes
from akorn_jax.report.run import Run

TITLE, ORDER = "Interpolation", 40


def applies(output: ModelOutput) -> bool:
    """Whether the model can generate scenes between two."""
    return "interpolation" in (output.trajectory or {})


def following(indices: Sequence[int]) -> dict[int, int]:
    """The scene that each strip leads to: the next one in the split, from the last the first."""
    ordered = sorted(indices)
    return dict(zip(ordered, [*ordered[1:], *ordered[:1]], strict=True))


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """A strip per scene between the scenes at its ends, and how many pictures it has."""
    del run
    strips = {i: output.trajectory["interpolation"][0] for i, output in outputs.items()}
    pictures = {i: scenes.picture(scenes.shrink_image(examples.images[i])) for i in strips}
    return {
        "strips": [
            {
                "first": first,
                "last": last,
                "first_image": pictures[first],
                "last_image": pictures[last],
                "strip": _strip(strips[first]),
            }
            for first, last in following(strips).items()
        ],
        "count": len(next(iter(strips.values()))),
    }


def _strip(frames: np.ndarray) -> str:
    """Data URI of pictures `[T, H, W, 3]` in [0, 1], side by side."""
    pixels = np.rint(255 * np.clip(frames, 0, 1)).astype(np.uint8)
    small = [scenes.shrink_image(frame) for frame in pixels]
    encode = scenes.png if max(small[0].shape) <= scenes.SMALL else scenes.picture
    return encode(np.concatenate(small, axis=1))
