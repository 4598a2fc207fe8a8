"""Oscillators in motion as an animated GIF, for slides and READMEs."""

from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from akorn_jax.data.records import Examples
from akorn_jax.evaluation.plots import colorize
from akorn_jax.report.frames import Frames

TILE, GAP, LEFT, TOP = 112, 6, 92, 30  # pixels
INK, PAPER, LINE = (34, 34, 34), (255, 255, 255), (0, 119, 187)
FIRST, EACH, LAST = 1000, 500, 2000  # milliseconds
FONT_SIZE = 14


def write(path: epath.PathLike, frames: Frames, examples: Examples) -> None:
    """Writes a GIF: one column per scene, with the image, its oscillators and their clusters.

    Args:
        path: of the file; its directory is made if need be.
        frames: of the scenes.
        examples: the split that the scenes are from.
    """
    pictures = [draw(frames, examples.images, f) for f in range(len(frames))]
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    durations = [FIRST, *[EACH] * (len(pictures) - 2), LAST][: len(pictures)]
    with path.open("wb") as file:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            optimize=True,
        )


def draw(frames: Frames, images: np.ndarray, f: int) -> Image.Image:
    """One frame of the animation."""
    rows = {
        "image": [images[i] for i in frames.indices],
        "oscillators": list(frames.phases[f]),
        "clusters": list(colorize(frames.clusters[f])),
    }
    columns = len(frames.indices)
    size = (LEFT + columns * (TILE + GAP), TOP + len(rows) * (TILE + GAP) + GAP)
    canvas = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_SIZE)
    pen.text((LEFT, TOP // 2), frames.names[f], INK, font, anchor="lm")
    _progress(pen, (LEFT + 110, TOP // 2, size[0] - GAP), f, len(frames))
    for row, (name, pictures) in enumerate(rows.items()):
        top = TOP + row * (TILE + GAP)
        pen.text((LEFT - 8, top + TILE // 2), name, INK, font, anchor="rm")
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (LEFT + column * (TILE + GAP), top))
    return canvas


def _progress(pen: ImageDraw.ImageDraw, line: Sequence[int], f: int, count: int) -> None:
    left, y, right = line
    here = left + (right - left) * f // max(count - 1, 1)
    pen.line((left, y, right, y), (221, 221, 221), 4)
    pen.line((left, y, here, y), LINE, 4)
    pen.ellipse((here - 5, y - 5, here + 5, y + 5), LINE)
