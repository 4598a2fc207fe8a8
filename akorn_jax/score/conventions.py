"""One name, many rules: every convention in use for a score of segmentations, and who uses it.

All scores are computed from the contingency table of an image (`akorn_jax.metrics.Contingency`),
but for the boundary measure, which looks at the maps.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.optimize import linear_sum_assignment

from akorn_jax import metrics
from akorn_jax.metrics import Contingency

Array = np.ndarray

BOUNDARY_SHARE = 0.0075  # of the image's diagonal: how far off a boundary may be (DAVIS)


@dataclasses.dataclass(frozen=True)
class Convention:
    """A rule by which images get scores.

    Attributes:
        users: one sentence, who reports it.
        score: table, background ids -> the scores of an image, NaN where it has none; several
            where each object counts by itself.
    """

    users: str
    score: Callable[[Contingency, Sequence[int]], Array | float]


def objects_of(table: Contingency, background_ids: Sequence[int]) -> Array:
    """`[R]`, which true segments are objects."""
    return table.is_object(background_ids)


def fg_ari(table: Contingency, background_ids: Sequence[int], *, empty: float) -> float:
    """Adjusted Rand index over the pixels of true objects; `empty` where there is none."""
    objects = objects_of(table, background_ids)
    return metrics.rand_index(table.counts[objects]) if objects.any() else empty


def best_overlaps(table: Contingency, background_ids: Sequence[int]) -> Array:
    """Of each true object, the IoU of the predicted segment that fits it best."""
    objects = objects_of(table, background_ids)
    iou = table.counts[objects] / table.unions()[objects]
    return iou.max(1) if objects.any() else np.array([])


def matched_iou(table: Contingency, background_ids: Sequence[int], *, over: str) -> float:
    """Mean IoU after a one-to-one assignment that maximises its sum.

    Args:
        over: what the sum is divided by: "true" objects (without the background), "visible" ones
            that were given a segment, or "all" true segments with the background.
    """
    objects = objects_of(table, background_ids)
    iou = table.counts / table.unions()
    row, column = linear_sum_assignment(iou, maximize=True)
    if over == "all":
        return float(iou[row, column].sum() / len(objects))
    if not objects.any():
        return np.nan
    found = iou[row, column][objects[row]]
    return float(found.sum() / (objects.sum() if over == "true" else max(len(found), 1)))


def clevrtex_miou(table: Contingency, background_ids: Sequence[int]) -> float:
    """The benchmark's own, on ids from 0 with the background first."""
    order = np.argsort(objects_of(table, background_ids), kind="stable")
    rows, columns = table.counts.shape
    if len(order) == objects_of(table, background_ids).sum():  # no pixel of the background
        found = Contingency(table.counts[order], np.arange(1, rows + 1), np.arange(columns))
    else:
        found = Contingency(table.counts[order], np.arange(rows), np.arange(columns))
    return metrics.clevrtex_scores(found, max(rows + 1, columns))["mIoU_fg"]


def covering(table: Contingency, background_ids: Sequence[int], *, by_area: bool) -> float:
    """Segmentation covering: the best IoU of each true object, on average, by area or equally."""
    objects = objects_of(table, background_ids)
    if not objects.any():
        return np.nan
    weights = table.counts[objects].sum(1) if by_area else np.ones(objects.sum())
    return float(np.average(best_overlaps(table, background_ids), weights=weights))


def panoptic_quality(table: Contingency, background_ids: Sequence[int]) -> float:
    """Class-agnostic PQ: IoU of pairs above 1/2, over pairs and half of what is left on each side.

    A predicted segment that lies in the background for the most part is background.
    """
    objects = objects_of(table, background_ids)
    on_background = table.counts[~objects].sum(0) > table.counts.sum(0) / 2
    counts = table.counts[:, ~on_background]
    unions = table.unions()[:, ~on_background]
    iou = counts[objects] / unions[objects]
    total = objects.sum() + iou.shape[1]
    if total == 0:
        return np.nan
    pairs = iou > 0.5
    return float(iou[pairs].sum() / (pairs.sum() + (total - 2 * pairs.sum()) / 2))


CONVENTIONS: Mapping[str, Convention] = {
    "fg_ari": Convention(
        "FG-ARI, images without objects count 1: scikit-learn's answer; AKOrN, SAVi.",
        lambda t, b: fg_ari(t, b, empty=1.0),
    ),
    "fg_ari_skip": Convention(
        "FG-ARI, images without objects are left out: videosaur; DeepMind's gives NaN there.",
        lambda t, b: fg_ari(t, b, empty=np.nan),
    ),
    "ari": Convention(
        "ARI over all pixels, the background is a segment: IODINE's second number, Krimmel et al.",
        lambda t, b: metrics.rand_index(t.counts),
    ),
    "mbo_image": Convention(
        "mBO, mean over objects, then over images: DINOSAUR, SPOT, AKOrN.",
        lambda t, b: best_overlaps(t, b).mean() if objects_of(t, b).any() else np.nan,
    ),
    "mbo_object": Convention(
        "mBO, mean over all objects of all images: LSD.",
        best_overlaps,
    ),
    "miou_clevrtex": Convention(
        "mIoU, Hungarian with the background, spurious segments count: ClevrTex benchmark.",
        clevrtex_miou,
    ),
    "miou_true": Convention(
        "mIoU, Hungarian, divided by the number of true objects: object-centric-learning "
        "framework, SPOT.",
        lambda t, b: matched_iou(t, b, over="true"),
    ),
    "miou_visible": Convention(
        "mIoU, Hungarian, over the objects that were given a segment: LSD.",
        lambda t, b: matched_iou(t, b, over="visible"),
    ),
    "miou_all": Convention(
        "mIoU, Hungarian, the background is a segment like any other.",
        lambda t, b: matched_iou(t, b, over="all"),
    ),
    "sc": Convention(
        "Segmentation covering by area: GENESIS, GENESIS-V2.",
        lambda t, b: covering(t, b, by_area=True),
    ),
    "msc": Convention(
        "Mean segmentation covering, objects equally: GENESIS, GENESIS-V2.",
        lambda t, b: covering(t, b, by_area=False),
    ),
    "pq": Convention(
        "Panoptic quality of one class, pairs above IoU 1/2: Kirillov et al. 2019.",
        panoptic_quality,
    ),
}
BOUNDARY = "boundary_f"
BOUNDARY_USERS = (
    "Boundary F: precision and recall of segment borders within 0.75 % of the diagonal: DAVIS."
)


def boundary_f(true: Array, pred: Array) -> float:
    """F-measure of the borders of two label maps `[H, W]`; NaN where neither has any."""
    borders = [_borders(labels) for labels in (true, pred)]
    radius = max(1, round(BOUNDARY_SHARE * float(np.hypot(*true.shape))))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = y**2 + x**2 <= radius**2
    near = [binary_dilation(border, disk) for border in borders]
    if not borders[0].any() and not borders[1].any():
        return np.nan
    precision = (borders[1] & near[0]).sum() / max(borders[1].sum(), 1)
    recall = (borders[0] & near[1]).sum() / max(borders[0].sum(), 1)
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _borders(labels: Array) -> Array:
    border = np.zeros(labels.shape, bool)
    border[:-1] |= labels[:-1] != labels[1:]
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return border
