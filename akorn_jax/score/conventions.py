"""One name, many rules: every convention in use for a score of segmentations, and who uses it.

Scores are computed from the contingency tables of images (`akorn_jax.metrics.Contingency`), but for
the boundary measure, which looks at the maps. `docs/score.md` has what was compared with the
reference implementations.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from akorn_jax import metrics
from akorn_jax.metrics import Contingency

Array = np.ndarray

BOUNDARY_SHARE = 0.008  # of the image's diagonal: how far off a boundary may be (DAVIS 2017)


@dataclasses.dataclass(frozen=True)
class Convention:
    """A rule by which images get scores.

    Attributes:
        users: one sentence, who reports it.
        score: table, background ids -> the score of an image, NaN where it has none; `[R]` where
            each object counts by itself.
        of_videos: whether the frames of a video make one table; otherwise each is an image.
    """

    users: str
    score: Callable[[Contingency, Sequence[int]], Array | float]
    of_videos: bool = False


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


def fg_ari_deepmind(table: Contingency, background_ids: Sequence[int]) -> float:
    """FG-ARI by the formula of multi_object_datasets, which is NaN where it divides by 0.

    That is so without objects, and where one object is found whole; the one exception is an image
    that is one segment, with one object at most: 1.
    """
    counts = table.counts[objects_of(table, background_ids)]
    if table.counts.shape[1] == 1 and len(counts) <= 1:
        return 1.0
    segments = np.count_nonzero(counts.any(0))
    return np.nan if len(counts) == segments <= 1 else metrics.rand_index(counts)


def matched_iou(table: Contingency, background_ids: Sequence[int]) -> float:
    """Mean IoU of true objects after the one-to-one assignment that maximises its sum.

    The background takes no part in the assignment; an object that is given nothing counts 0.
    """
    objects = objects_of(table, background_ids)
    if not objects.any():
        return np.nan
    iou = table.counts[objects] / table.unions()[objects]
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / len(iou))


def matched_iou_all(table: Contingency, background_ids: Sequence[int]) -> float:
    """The same over all true segments, the background as one of them."""
    del background_ids
    iou = table.counts / table.unions()
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / len(iou))


def matched_iou_by_cosine(table: Contingency, background_ids: Sequence[int]) -> Array:
    """Of each true object, the IoU of the segment that it is given; 0 where it is given none.

    The one-to-one assignment maximises the cosine similarity of masks, without the background.
    """
    objects = objects_of(table, background_ids)
    counts, unions = table.counts[objects], table.unions()[objects]
    norms = np.sqrt(np.outer(counts.sum(1), table.counts.sum(0)))
    pairs = linear_sum_assignment(counts / norms, maximize=True)
    found = np.zeros(len(counts))
    found[pairs[0]] = counts[pairs] / unions[pairs]
    return found


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
        "FG-ARI, images without objects count 1: scikit-learn's answer; AKOrN, SAVi, ClevrTex.",
        lambda t, b: fg_ari(t, b, empty=1.0),
    ),
    "fg_ari_skip": Convention(
        "FG-ARI, images without objects are left out: videosaur.",
        lambda t, b: fg_ari(t, b, empty=np.nan),
    ),
    "fg_ari_nan": Convention(
        "FG-ARI as DeepMind's multi_object_datasets, which has NaN without objects and where one "
        "object is found whole; these are left out: IODINE, Slot Attention.",
        fg_ari_deepmind,
    ),
    "fg_ari_video": Convention(
        "FG-ARI of whole videos, where a segment must keep its id: SAVi, STEVE.",
        lambda t, b: fg_ari(t, b, empty=1.0),
        of_videos=True,
    ),
    "ari": Convention(
        "ARI over all pixels, the background is a segment: IODINE's second number, Krimmel et al.",
        lambda t, b: metrics.rand_index(t.counts),
    ),
    "mbo_image": Convention(
        "mBO, mean over objects, then over images: DINOSAUR, SPOT, AKOrN.",
        lambda t, b: best_overlaps(t, b).mean() if objects_of(t, b).any() else np.nan,
    ),
    "mbo_object": Convention("mBO, mean over all objects of all images: LSD.", best_overlaps),
    "mbo_video": Convention(
        "mBO of whole videos, where a segment must keep its id: videosaur.",
        lambda t, b: best_overlaps(t, b).mean() if objects_of(t, b).any() else np.nan,
        of_videos=True,
    ),
    "miou_clevrtex": Convention(
        "mIoU, Hungarian with the background, spurious segments count: ClevrTex benchmark.",
        clevrtex_miou,
    ),
    "miou_true": Convention(
        "mIoU, Hungarian without the background, over true objects: object-centric-learning "
        "framework, SPOT.",
        matched_iou,
    ),
    "miou_visible": Convention(
        "mIoU, matched by the cosine similarity of masks, over all visible objects of all images: "
        "LSD.",
        matched_iou_by_cosine,
    ),
    "miou_all": Convention(
        "mIoU, Hungarian, over all true segments, the background as one of them.",
        matched_iou_all,
    ),
    "sc": Convention(
        "Segmentation covering of objects by area: GENESIS, which counts images without any 0.",
        lambda t, b: covering(t, b, by_area=True),
    ),
    "msc": Convention(
        "Mean segmentation covering, objects equally: GENESIS, which counts images without any 0.",
        lambda t, b: covering(t, b, by_area=False),
    ),
    "pq": Convention(
        "Panoptic quality of one class, pairs above IoU 1/2, image by image: Kirillov et al. 2019.",
        panoptic_quality,
    ),
}
BOUNDARY = "boundary_f"
BOUNDARY_USERS = (
    "Boundary F, borders of all segments at once, within 0.8 % of the diagonal: DAVIS 2017's rule "
    "for one object."
)


def boundary_f(true: Array, pred: Array) -> float:
    """F-measure of the borders of two label maps `[H, W]`; 1 where neither has any.

    A pixel is on a border if its right, lower or lower right neighbour is of another segment.
    """
    borders = [_borders(labels) for labels in (true, pred)]
    if not borders[0].any() or not borders[1].any():
        return float(borders[0].any() == borders[1].any())
    radius = math.ceil(BOUNDARY_SHARE * math.hypot(*true.shape))
    near = [_dilated(border, radius) for border in borders]
    precision = (borders[1] & near[0]).sum() / borders[1].sum()
    recall = (borders[0] & near[1]).sum() / borders[0].sum()
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _borders(labels: Array) -> Array:
    border = np.zeros(labels.shape, bool)
    border[:-1] |= labels[:-1] != labels[1:]
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return border


def _dilated(border: Array, radius: int) -> Array:
    """The pixels within `radius` of a border: row by row of a disk, by running sums."""
    height, width = border.shape
    sums = np.pad(border, ((radius, radius), (radius + 1, radius))).cumsum(1, dtype=np.int32)
    near = np.zeros_like(border)
    for offset in range(-radius, radius + 1):
        reach = math.isqrt(radius**2 - offset**2)
        rows = sums[radius + offset : radius + offset + height]
        near |= rows[:, radius + 1 + reach :][:, :width] > rows[:, radius - reach :][:, :width]
    return near
