"""How well a model with boxes counts the objects of a scene and finds where they are.

A true box is the smallest upright one around the visible pixels of an object. A prediction is right
if it overlaps a true box by at least half (intersection over union) that no surer prediction of its
image has taken.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, baselines, plots
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result, summarize
from akorn_jax.evaluation.workers import Workers
from akorn_jax.outputs import ModelOutput

Array = jax.Array

OVERLAP = 0.5  # intersection over union of a right prediction
PRESENT = 0.5  # presence from which on a prediction counts as an object
HEADINGS = {
    "count_accuracy": "count right",
    "count_error": "count off by",
    "box_precision": "precision",
    "box_recall": "recall",
    "box_ap": "AP",
}


class Evaluator(base.Evaluator):
    """Counts and boxes at an overlap of 0.5, beside those of regions of one colour.

    `metrics.json` has `count_accuracy`, the share of scenes with the right number of objects;
    `count_error`, the mean absolute difference; `box_precision` and `box_recall` of the predictions
    that are present, over all scenes together; and `box_ap`, the average precision of all
    predictions in order of their presence.
    """

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "boxes" `[B, K, 4]` and "presence" `[B, K]`."""
        if output.boxes is None or output.presence is None:
            raise UserError("The model has no boxes; choose other config.eval.evaluators.")
        return {"boxes": output.boxes, "presence": output.presence}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores beside the baselines; without true masks none."""
        found = {name: Detections(**collect(k)) for name, k in kept.items()}
        if examples.segmentation is None:
            note = "The data have no masks, so boxes are not scored."
            return Result(summary={}, columns={}, methods={"trained": {}}, notes=(note,))
        true = true_boxes(
            examples.segmentation,
            background_ids=examples.background_ids,
            ignore_ids=examples.ignore_ids,
        )
        if self.config.eval.baselines:
            found["color components"] = color_components(
                examples.images, self.config.data.num_clusters, self.config.eval.num_workers
            )
        counts = {name: count_scores(d, true) for name, d in found.items()}
        methods = {name: summarize(counts[name]) | box_scores(d, true) for name, d in found.items()}
        if self.config.eval.baselines:
            methods["best constant count"] = constant_count(true)
        return Result(
            summary={
                **methods["trained"],
                "baselines": {name: s for name, s in methods.items() if name != "trained"},
            },
            columns=HEADINGS,
            methods=methods,
            per_image=counts["trained"],
            files={"figures/objects.png": picture(found["trained"], true, examples.images)},
        )


class Detections(NamedTuple):
    """Predictions of N images; K is the largest number of an image, the others have presence 0.

    Attributes:
        boxes: `[N, K, 4]`, (y0, x0, y1, x1) in [0, 1].
        presence: `[N, K]` in [0, 1].
    """

    boxes: np.ndarray
    presence: np.ndarray


def true_boxes(
    segmentation: np.ndarray,
    *,
    background_ids: Sequence[int] = (0,),
    ignore_ids: Sequence[int] = (),
) -> list[np.ndarray]:
    """Per image the boxes `[M, 4]` of its visible objects, by ascending id.

    Args:
        segmentation: `[N, H, W]`.
        background_ids, ignore_ids: labels that are no object.
    """
    return [_boxes(labels, [*background_ids, *ignore_ids]) for labels in segmentation]


def _boxes(labels: np.ndarray, no_objects: Sequence[int]) -> np.ndarray:
    boxes = []
    for label in np.setdiff1d(labels, no_objects):
        rows, columns = np.nonzero(labels == label)
        boxes.append((rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
    height, width = labels.shape
    return np.reshape(boxes, (-1, 4)) / [height, width, height, width]


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes `[K, 4]` and `[M, 4]`: `[K, M]`; 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - shared
    return shared / np.where(union > 0, union, 1)


def right_boxes(boxes: np.ndarray, presence: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Which of an image's predictions are right, bool `[K]`.

    From the surest on, of equally sure ones from the best overlap on, each takes the true box that
    it overlaps most of those that are left.
    """
    right = np.zeros(len(boxes), bool)
    if not len(true):
        return right
    iou = box_iou(boxes, true)
    left = np.ones(len(true), bool)
    for k in np.lexsort((-iou.max(axis=1), -presence)):
        overlap = np.where(left, iou[k], -1.0)
        best = np.argmax(overlap)
        if overlap[best] >= OVERLAP:
            right[k], left[best] = True, False
    return right


def box_scores(found: Detections, true: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Precision, recall and average precision over all images together; None where undefined."""
    right = np.stack([right_boxes(*each) for each in zip(*found, true, strict=True)])
    num_true = sum(map(len, true))
    present = found.presence > PRESENT
    hits = int(np.sum(right & present))
    return {
        "box_precision": hits / int(present.sum()) if present.any() else None,
        "box_recall": hits / num_true if num_true else None,
        "box_ap": average_precision(found.presence, right, num_true) if num_true else None,
    }


def average_precision(confidence: np.ndarray, right: np.ndarray, num_true: int) -> float:
    """Area under the envelope of precision over recall.

    Equally sure predictions count together: their order would be arbitrary. Those of no confidence
    are left out.

    Args:
        confidence: of predictions, of any shape.
        right: bool, of the same shape.
        num_true: objects that there are, at least 1.
    """
    order = np.argsort(-confidence.ravel(), kind="stable")
    confidence, right = confidence.ravel()[order], right.ravel()[order]
    right, confidence = right[confidence > 0], confidence[confidence > 0]
    if not len(right):
        return 0.0
    last = np.append(np.flatnonzero(np.diff(confidence)), len(right) - 1)
    hits = np.cumsum(right)[last]
    envelope = np.maximum.accumulate((hits / (last + 1))[::-1])[::-1]
    return float(np.sum(np.diff(hits, prepend=0) * envelope) / num_true)


def count_scores(found: Detections, true: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """`count_accuracy` and `count_error` of each image, `[N]`."""
    error = np.abs(np.sum(found.presence > PRESENT, axis=1) - [len(boxes) for boxes in true])
    return {"count_accuracy": (error == 0).astype(float), "count_error": error.astype(float)}


def constant_count(true: Sequence[np.ndarray]) -> dict[str, float]:
    """What knowing the true counts' most frequent one, and their median, would score."""
    counts = np.array([len(boxes) for boxes in true])
    return {
        "count_accuracy": float(np.bincount(counts).max() / len(counts)),
        "count_error": float(np.mean(np.abs(counts - np.median(counts)))),
    }


def color_components(images: np.ndarray, num_clusters: int, num_workers: int = 0) -> Detections:
    """The boxes around regions of one colour, but for the largest, as if all were present."""
    with Workers(num_workers or None) as workers:
        maps = baselines.color_components(images, num_clusters, workers=workers)
    boxes = true_boxes(maps)  # label 0 is the largest region
    most = max(1, *map(len, boxes))
    return Detections(
        boxes=np.stack([np.pad(b, ((0, most - len(b)), (0, 0))) for b in boxes]),
        presence=np.stack([np.arange(most) < len(b) for b in boxes]).astype(float),
    )


def picture(found: Detections, true: Sequence[np.ndarray], images: np.ndarray) -> bytes:
    """The first scenes with their true boxes and those that are predicted, as a PNG."""
    num = min(plots.NUM_PICTURES, len(images))
    pred, right = [], []
    for boxes, presence, truth in zip(*(part[:num] for part in found), true[:num], strict=True):
        present = presence > PRESENT
        pred.append(boxes[present])
        right.append(right_boxes(boxes[present], presence[present], truth))
    file = io.BytesIO()
    plots.boxes(file, images[:num], true[:num], pred, right)
    return file.getvalue()
