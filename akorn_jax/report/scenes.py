"""Scenes of a report: which are shown, and how they are rendered."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.evaluation.plots import colorize

MAX_SCENES = 48
MAX_SIDE = 160  # pixels; larger pictures are drawn smaller
SMALL = 64  # up to this side pictures are stored without loss
BUDGET = 3_000_000  # bytes of the gallery, of the five million that a report may have


@dataclasses.dataclass(frozen=True)
class Scene:
    """One card of the gallery.

    Attributes:
        index: place in the evaluated split.
        record: place in the prepared data.
        num_objects: as the protocol counts them.
        scores: by name; None where the scene has no such score.
        size: (height, width) of the pictures.
        image, true, pred: data URIs.
        true_outline, pred_outline: SVG paths along the borders of the segments.
    """

    index: int
    record: int
    num_objects: int
    scores: dict[str, float | None]
    size: tuple[int, int]
    image: str
    true: str
    pred: str
    true_outline: str
    pred_outline: str

    def num_bytes(self) -> int:
        """What the card takes of the page, about."""
        pictures = (self.image, self.true, self.pred, self.true_outline, self.pred_outline)
        return 1000 + sum(len(picture) for picture in pictures)


def gallery(
    examples: Examples, pred: np.ndarray, scores: dict[str, np.ndarray], key: str
) -> list[Scene]:
    """Scenes from the worst to the best, at even distances in the ranking.

    So what is shown is distributed as all scenes are. There are `MAX_SCENES`, or as many as fit
    into `BUDGET`.

    Args:
        examples: the evaluated split.
        pred: predicted labels `[N, H, W]`.
        scores: per-image scores `[N]`, by name.
        key: the score of the ranking.
    """
    chosen = spread(scores[key], MAX_SCENES)
    cards = [draw(examples, pred, scores, i) for i in chosen]
    total = sum(card.num_bytes() for card in cards)
    if total <= BUDGET:
        return cards
    keep = spread(np.arange(len(cards)), max(1, len(cards) * BUDGET // total))
    return [cards[i] for i in keep]


def spread(values: np.ndarray, count: int) -> list[int]:
    """Indices of `count` values at even distances in the ranking, lowest first, without NaN."""
    ranking = np.argsort(values, kind="stable")  # NaN last
    ranking = ranking[: np.sum(~np.isnan(values))]
    places = np.linspace(0, len(ranking) - 1, min(count, len(ranking))).round().astype(int)
    return [int(i) for i in ranking[places]]


def draw(examples: Examples, pred: np.ndarray, scores: dict[str, np.ndarray], index: int) -> Scene:
    """The card of one scene."""
    image, true = shrink_image(examples.images[index]), shrink(examples.segmentation[index])
    matched = match_labels(true[None], shrink(pred[index])[None], ignore_ids=examples.ignore_ids)[0]
    return Scene(
        index=index,
        record=int(examples.records[index]),
        num_objects=int(examples.counts[index]),
        scores={
            name: None if np.isnan(values[index]) else float(values[index])
            for name, values in scores.items()
        },
        size=image.shape[:2],
        image=picture(image),
        true=label_picture(true),
        pred=label_picture(matched),
        true_outline=outline(true),
        pred_outline=outline(matched),
    )


def shrink(labels: np.ndarray) -> np.ndarray:
    """Labels `[H, W]`, every n-th pixel so that they fit `MAX_SIDE`."""
    step = -(-max(labels.shape) // MAX_SIDE)
    return labels[step // 2 :: step, step // 2 :: step]


def shrink_image(image: np.ndarray) -> np.ndarray:
    """An image `[H, W, 3]` uint8, at the size that `shrink` gives its labels."""
    height, width = shrink(image[..., 0]).shape
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def picture(image: np.ndarray) -> str:
    """Data URI of an image `[H, W, 3 or 4]` uint8: exact where it is small, else lossy."""
    buffer = io.BytesIO()
    if max(image.shape[:2]) <= SMALL:
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        return uri(buffer.getvalue(), "image/png")
    Image.fromarray(image).save(buffer, "WEBP", quality=90)
    return uri(buffer.getvalue(), "image/webp")


def label_picture(labels: np.ndarray) -> str:
    """Data URI of a label map `[H, W]` in the colours of the palette."""
    return png(colorize(labels))


def png(image: np.ndarray) -> str:
    """Data URI of an image `[H, W, 3]` of few colours."""
    buffer = io.BytesIO()
    if len(np.unique(image.reshape(-1, 3), axis=0)) <= 256:
        paletted = Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
        paletted.save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return uri(buffer.getvalue(), "image/png")


def uri(data: bytes, kind: str) -> str:
    """`data:` URI of a file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def outline(labels: np.ndarray) -> str:
    """SVG path along the borders between segments of a map `[H, W]`, in pixels."""
    parts = []
    for changes, command in ((_changes(labels), "h"), (_changes(labels.T), "v")):
        for line, row in enumerate(changes):
            for start, stop in _runs(row):
                at = (start, line + 1) if command == "h" else (line + 1, start)
                parts.append(f"M{at[0]} {at[1]}{command}{stop - start}")
    return "".join(parts)


def _changes(labels: np.ndarray) -> np.ndarray:
    """Where a row differs from the next: bool `[H - 1, W]`."""
    return labels[1:] != labels[:-1]


def _runs(row: Sequence[bool]) -> list[tuple[int, int]]:
    """(start, stop) of the stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(row, int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


@dataclasses.dataclass(frozen=True)
class Film:
    """Frames side by side in one picture.

    Attributes:
        uri: the picture.
        pad: columns by which the border of each frame is repeated on both sides, as a share of its
            width: what a browser blends in from there is the frame's own.
    """

    uri: str
    pad: float


def film(frames: np.ndarray) -> Film:
    """Frames `[F, h, w, 3]` uint8, enlarged to `SMALL` pixels at least."""
    scale = -(-SMALL // frames.shape[2])
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    padded = np.pad(frames, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge")
    return Film(png(np.concatenate(list(padded), axis=1)), round(1 / frames.shape[2], 5))


def css(colors: np.ndarray) -> list[str]:
    """Colours `[N, 3]` uint8 as style sheets have them."""
    return ["#" + bytes(color).hex() for color in colors]
