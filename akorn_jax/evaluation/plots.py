"""Pictures of segmentations and of boxes."""

import io
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.evaluation.result import Result

NUM_PICTURES = 16

# Paul Tol's "muted" and "bright" schemes: distinct for colour-blind readers, first to last.
PALETTE = np.array(
    [
        (221, 221, 221), (51, 34, 136), (136, 204, 238), (68, 170, 153), (17, 119, 51),
        (153, 153, 51), (221, 204, 119), (204, 102, 119), (136, 34, 85), (170, 68, 153),
        (238, 119, 51), (0, 119, 187), (51, 187, 238), (238, 51, 119), (204, 51, 17),
    ],
    np.uint8,
)  # fmt: skip


def colorize(labels: np.ndarray) -> np.ndarray:
    """Label maps `[..., H, W]` to RGB `[..., H, W, 3]` uint8; label 0 is light gray."""
    return PALETTE[labels % len(PALETTE)]


def result(found: Result, examples: Examples) -> bytes:
    """The first scenes, their segments and the model's, with its scores, as a PNG.

    Without true segments, the image and the model's segments alone.
    """
    shown = slice(NUM_PICTURES)
    file = io.BytesIO()
    if examples.segmentation is None:
        images = examples.images[shown]
        segmentation(file, images, None, found.labels[shown], [""] * len(images))
        return file.getvalue()
    scores = (found.per_image[name][shown] for name in ("fg_ari", "mbo"))
    captions = [f"FG-ARI {_score(f)}, mBO {_score(m)}" for f, m in zip(*scores, strict=True)]
    true = examples.segmentation[shown]
    matched = match_labels(true, found.labels[shown], ignore_ids=examples.ignore_ids)
    segmentation(file, examples.images[shown], true, matched, captions)
    return file.getvalue()


def _score(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def pixels(png: bytes) -> np.ndarray:
    """A picture as `[H, W, 3]` uint8."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def segmentation(
    file: BinaryIO,
    images: np.ndarray,
    true: np.ndarray | None,
    pred: np.ndarray,
    captions: Sequence[str],
) -> None:
    """Writes a PNG with one column per scene: image, truth, prediction.

    Args:
        file: gets the PNG.
        images: `[N, H, W, 3]` uint8.
        true: `[N, H, W]` labels; None leaves their row out.
        pred: `[N, H, W]` labels, matched to the truth's.
        captions: below each column.
    """
    rows = {"image": images, "prediction": colorize(pred)}
    if true is not None:
        rows = {"image": images, "truth": colorize(true), "prediction": colorize(pred)}
    height, columns = len(rows), min(8, len(images))
    blocks = -(-len(images) // columns)
    size = (1.25 * columns + 0.6, 1.4 * height * blocks)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(height * blocks, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, caption in enumerate(captions):
        block, column = divmod(i, columns)
        for row, (name, pictures) in enumerate(rows.items()):
            axis = axes[height * block + row, column]
            axis.imshow(pictures[i], interpolation="nearest")
            if column == 0:
                axis.text(
                    -0.08, 0.5, name, fontsize=8, rotation=90, ha="right", va="center",
                    transform=axis.transAxes,
                )  # fmt: skip
        axis.set_title(caption, fontsize=7, y=-0.22)
    figure.savefig(file, format="png")


def boxes(
    file: BinaryIO,
    images: np.ndarray,
    true: Sequence[np.ndarray],
    pred: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
) -> None:
    """Writes a PNG of scenes with boxes: true ones in white, right ones in blue, wrong ones in red.

    Args:
        file: gets the PNG.
        images: `[N, H, W, 3]` uint8.
        true: per scene `[M, 4]`, (y0, x0, y1, x1) in [0, 1].
        pred: per scene `[K, 4]`.
        right: per scene bool `[K]`.
    """
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.4 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    height, width = images.shape[1:3]
    scale = np.array([height, width, height, width])
    for axis, image, truth, found, hits in zip(axes, images, true, pred, right, strict=False):
        axis.imshow(image, interpolation="nearest", extent=(0, width, height, 0))
        drawn = [(box, "white", 2.4) for box in truth]
        colors = np.where(hits, "#0077bb", "#cc3311")
        drawn += [(box, color, 1.2) for box, color in zip(found, colors, strict=True)]
        for box, color, line in drawn:
            y0, x0, y1, x1 = box * scale
            axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=color, lw=line))
        caption = f"{len(found)} of {len(truth)}, {int(hits.sum())} right"
        axis.set_title(caption, fontsize=7, y=-0.22)
    figure.savefig(file, format="png")
