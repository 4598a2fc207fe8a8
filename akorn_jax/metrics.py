"""Scores of a segmentation, image by image: label maps `[B, H, W]` in, float64 `[B]` out.

A segmentation is scored through the contingency table of its image: how many pixels each true
segment shares with each predicted one. Names of the segments play no part, except that the caller
says which true ids are background (`background_ids`) and which true pixels nobody is asked about
(`ignore_ids`: they are left out of every count). A stored map of unsigned bytes cannot hold -1;
where its builder keeps unlabelled pixels as 255, pass `ignore_ids=(255,)`.

Conventions are those of the published tables:

* adjusted Rand index: Hubert and Arabie 1985, "Comparing partitions", with scikit-learn's answer 1
  where nothing can disagree (an empty foreground, one pixel). Such images count in the mean.
* mean best overlap: Pont-Tuset et al. 2015 (arXiv:1503.00848), over the true objects.
* ClevrTex's measures: Karazija et al. 2021 (arXiv:2111.10265).
* average precision of predicted sets: Locatello et al. 2020 (arXiv:2006.15055), section 4.2.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

Array = np.ndarray
Ids = Sequence[int]

OVERLAP_EPSILON = 1e-9  # in the denominator of the best overlap, as in AKOrN's evaluation
TIE = 1e-9  # favours objects over background, so that the score does not depend on the order of ids


@dataclasses.dataclass(frozen=True)
class Contingency:
    """Shared pixels of every true and every predicted segment of one image.

    Attributes:
        counts: `[R, C]` int64. No row or column is empty.
        true_ids: `[R]` ids of the rows, ascending.
        pred_ids: `[C]` ids of the columns, ascending.
    """

    counts: Array
    true_ids: Array
    pred_ids: Array

    def unions(self) -> Array:
        """`[R, C]`, pixels in either segment of the pair."""
        return self.counts.sum(1)[:, None] + self.counts.sum(0) - self.counts

    def is_object(self, background_ids: Ids) -> Array:
        """`[R]`, which rows are objects rather than background."""
        return ~np.isin(self.true_ids, background_ids)


def contingency(true: Array, pred: Array, ignore_ids: Ids = (-1,)) -> Contingency:
    """The table of one image, from integer label maps of one shape."""
    true, pred = np.ravel(true), np.ravel(pred)
    if true.size and min(true.min(), pred.min()) >= 0:
        shape = int(true.max()) + 1, int(pred.max()) + 1
        if shape[0] * shape[1] <= true.size:  # ids are few: they count without being sorted
            return _counted(true, pred, shape, ignore_ids)
    asked = ~np.isin(true, ignore_ids)
    if not asked.all():
        true, pred = true[asked], pred[asked]
    true_ids, row = np.unique(true, return_inverse=True)
    pred_ids, column = np.unique(pred, return_inverse=True)
    shape = len(true_ids), len(pred_ids)
    counts = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)
    return Contingency(counts, true_ids, pred_ids)


def _counted(true: Array, pred: Array, shape: tuple[int, int], ignore_ids: Ids) -> Contingency:
    """`contingency` of ids in [0, R) and [0, C)."""
    pairs = true.astype(np.int64) * shape[1] + pred
    counts = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    rows = np.flatnonzero(counts.any(1) & ~np.isin(np.arange(shape[0]), ignore_ids))
    counts = counts[rows]
    columns = np.flatnonzero(counts.any(0))
    return Contingency(counts[:, columns], rows, columns)


def tables(true: Array, pred: Array, ignore_ids: Ids = (-1,)) -> list[Contingency]:
    """The table of every image of a batch, from integer label maps `[B, H, W]`.

    Raises:
        ValueError: the maps are not whole numbers, or their shapes differ.
    """
    true, pred = _label_maps("true", true), _label_maps("pred", pred)
    if true.shape != pred.shape:
        raise ValueError(f"{true.shape=} and {pred.shape=}: label maps of one shape are needed")
    return [contingency(t, p, ignore_ids) for t, p in zip(true, pred, strict=True)]


def _label_maps(name: str, labels: Array) -> Array:
    labels = np.asarray(labels)
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} is {labels.dtype}{list(labels.shape)}: label maps are integers [B, H, W]"
        )
    # NumPy finds the distinct values of bytes by sorting, of longer words by hashing (3x faster).
    return labels if labels.dtype.itemsize >= 4 else labels.astype(np.int32)


def _per_image(score: Callable[[Contingency], float], batch: list[Contingency]) -> Array:
    return np.array([score(table) for table in batch], np.float64)


def ari(true: Array, pred: Array, *, ignore_ids: Ids = (-1,)) -> Array:
    """Adjusted Rand index over all pixels, background included: `[B]`, at most 1."""
    return _per_image(lambda t: rand_index(t.counts), tables(true, pred, ignore_ids))


def fg_ari(
    true: Array,
    pred: Array,
    *,
    background_ids: Ids = (0,),
    ignore_ids: Ids = (-1,),
) -> Array:
    """Adjusted Rand index over the pixels of true objects: `[B]`, at most 1.

    What the prediction does in the background is not seen. An image without objects scores 1 (see
    `has_object`); one object that is split scores 0, and 1 where it is whole.
    """
    return _per_image(lambda t: _foreground_rand(t, background_ids), tables(true, pred, ignore_ids))


def mean_best_overlap(
    true: Array,
    pred: Array,
    *,
    background_ids: Ids = (0,),
    ignore_ids: Ids = (-1,),
) -> Array:
    """Best IoU of any predicted segment with each true object, mean over objects: `[B]`.

    Background pixels of a predicted segment count in its union. A predicted segment may serve
    several objects. NaN where the image has no object: such images do not count in the mean.
    """
    return _per_image(lambda t: _best_overlap(t, background_ids), tables(true, pred, ignore_ids))


def mean_iou(
    true: Array,
    pred: Array,
    *,
    background_ids: Ids = (0,),
    ignore_ids: Ids = (-1,),
) -> Array:
    """IoU of each true object with the one predicted segment that it is given, mean: `[B]`.

    The convention, of which there are many: one-to-one assignment of predicted to true segments
    that maximises the sum of IoU, in which the true background takes part like any segment (objects
    win ties); mean over the true objects alone; an object that is given nothing counts 0; predicted
    segments left over cost nothing (in `clevrtex_metrics` they do). NaN where there is no object.
    """
    return _per_image(
        lambda t: _assigned_overlap(t, background_ids), tables(true, pred, ignore_ids)
    )


def has_object(true: Array, *, background_ids: Ids = (0,), ignore_ids: Ids = (-1,)) -> Array:
    """Images with at least one pixel of an object: bool `[B]`. The others get FG-ARI 1 for free."""
    true = _label_maps("true", true)
    return ~np.isin(true, (*background_ids, *ignore_ids)).all((1, 2))


def segmentation_scores(
    true: Array,
    pred: Array,
    *,
    background_ids: Ids = (0,),
    ignore_ids: Ids = (-1,),
) -> dict[str, Array]:
    """The four scores above from one pass: `fg_ari`, `ari`, `mbo`, `miou`, each `[B]`."""
    batch = tables(true, pred, ignore_ids)
    return {
        "fg_ari": _per_image(lambda t: _foreground_rand(t, background_ids), batch),
        "ari": _per_image(lambda t: rand_index(t.counts), batch),
        "mbo": _per_image(lambda t: _best_overlap(t, background_ids), batch),
        "miou": _per_image(lambda t: _assigned_overlap(t, background_ids), batch),
    }


def rand_index(counts: Array) -> float:
    """Adjusted Rand index of a table, from the numbers of (ordered) pairs of pixels.

    Python integers: the products reach n^4, beyond 64 bits from 240x230 pixels on.
    """
    n = int(counts.sum())
    together = int((counts**2).sum())
    same_true = int((counts.sum(1) ** 2).sum())
    same_pred = int((counts.sum(0) ** 2).sum())
    agree, split, merged = together - n, same_true - together, same_pred - together
    apart = n * n - agree - n - split - merged
    if split == 0 and merged == 0:
        return 1.0
    chance = (agree + split) * (split + apart) + (agree + merged) * (merged + apart)
    return 2.0 * (agree * apart - split * merged) / chance


def _foreground_rand(table: Contingency, background_ids: Ids) -> float:
    return rand_index(table.counts[table.is_object(background_ids)])


def _best_overlap(table: Contingency, background_ids: Ids) -> float:
    objects = table.is_object(background_ids)
    if not objects.any():
        return np.nan
    overlap = table.counts[objects] / (table.unions()[objects] + OVERLAP_EPSILON)
    return overlap.max(1).mean()


def _assigned_overlap(table: Contingency, background_ids: Ids) -> float:
    objects = table.is_object(background_ids)
    if not objects.any():
        return np.nan
    iou = table.counts / table.unions()
    favoured = iou * np.where(objects, 1 + TIE, 1)[:, None]
    row, column = linear_sum_assignment(favoured, maximize=True)
    return iou[row, column][objects[row]].sum() / objects.sum()


def labels_from_masks(masks: Array, *, has_background: bool = True) -> Array:
    """Soft masks to the label map of the largest, the first where several are: `[B, H, W]`.

    Masks are probabilities or logits `[B, K, H, W]`. Without `has_background`, a mask of 1 minus
    their sum is put before them: label 0 is then what none of them claims.
    """
    masks = np.asarray(masks)
    if not has_background:
        masks = np.concatenate([1 - masks.sum(1, keepdims=True), masks], axis=1)
    return masks.argmax(1).astype(np.int32)


def clevrtex_metrics(true: Array, pred: Array) -> dict[str, Array]:
    """The measures of the ClevrTex evaluator, under its names, image by image.

    True and predicted segments are assigned one to one so that the sum of IoU is largest, true
    background (id 0) included; `pairs` counts the true segments whose own or assigned pixels exist.

    * `mIoU`, `DICE`: sum over segments divided by `pairs`; `mIoU_fg`, `DICE_FG`: without the
      background, by `pairs - 1`, NaN where that is 0. `mIoU_fg` is the paper's column "mIoU".
    * `mIoU_gt`: sum of IoU divided by the number of true segments.
    * `ARI`, `ARI_FG`: as `ari` and `fg_ari`.
    * `acc`: 1 where the number of segments is right.
    * `mSC`: segmentation covering, best IoU of each true segment weighted by its pixels. The
      released code leaves out the last true and the last predicted label and fails on images
      without foreground, so published values differ.

    A segment that overlaps nothing may be assigned to any other, and `pairs` depends on the choice.
    The evaluator's own is made here, SciPy's on a square float32 table of all predicted masks (of a
    label map: all ids up to the largest).

    Both are integers `[B, H, W]` or `[B, 1, H, W]`, ids from 0, or masks `[B, K, H, W]`, of which
    the largest counts.
    """
    true_maps, true_size = _segments("true", true)
    pred_maps, pred_size = _segments("pred", pred)
    size = max(true_size, pred_size)
    rows = [clevrtex_scores(table, size) for table in tables(true_maps, pred_maps, ignore_ids=())]
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _segments(name: str, segments: Array) -> tuple[Array, int]:
    """Label maps and how many segments they may hold."""
    segments = np.asarray(segments)
    if segments.ndim == 4 and segments.shape[1] > 1:
        return labels_from_masks(segments), segments.shape[1]
    maps = _label_maps(name, segments[:, 0] if segments.ndim == 4 else segments)
    if maps.min() < 0:
        raise ValueError(f"{name} holds id {maps.min()}: segments are numbered from 0")
    return maps, int(maps.max()) + 1


def clevrtex_scores(table: Contingency, size: int) -> dict[str, float]:
    """Of one image whose ids are below `size`, the background's 0; see `clevrtex_metrics`."""
    shared = np.zeros((size, size), np.int64)
    shared[np.ix_(table.true_ids, table.pred_ids)] = table.counts
    true_area, pred_area = shared.sum(1), shared.sum(0)
    total = true_area[:, None] + pred_area
    iou = (shared / np.maximum(total - shared, 1)).astype(np.float32)
    row, column = linear_sum_assignment(iou, maximize=True)
    matched = iou[row, column].astype(np.float64)
    dice = 2 * shared[row, column] / np.maximum(total[row, column], 1)
    pairs = np.sum((true_area > 0) | (pred_area[column] > 0))
    true_count, pred_count = np.sum(true_area > 0), np.sum(pred_area > 0)

    foreground_pairs = pairs - 1 if pairs > 1 else np.nan
    return {
        "acc": float(true_count == pred_count),
        "mIoU": matched.sum() / pairs,
        "mIoU_fg": matched[1:].sum() / foreground_pairs,
        "mIoU_gt": matched.sum() / true_count,
        "mSC": (true_area * iou.max(1)).sum() / true_area.sum(),
        "DICE": dice.sum() / pairs,
        "DICE_FG": dice[1:].sum() / foreground_pairs,
        "ARI": rand_index(table.counts),
        "ARI_FG": _foreground_rand(table, (0,)),
    }


def squared_error(image: Array, recon: Array) -> Array:
    """Sum over pixels and channels, `[B]`; of images in [0, 1] it is the "MSE" of ClevrTex."""
    difference = np.asarray(image, np.float64) - np.asarray(recon, np.float64)
    return (difference**2).reshape(len(difference), -1).sum(1)


def average_precision(
    pred: Array,
    target: Array,
    threshold: float,
    *,
    categories: Sequence[tuple[int, int]] = ((0, 3), (3, 5), (5, 7), (7, 15)),
    position: tuple[int, int] = (15, 18),
    real: int = 18,
    scale: float = 6.0,
) -> float:
    """Average precision of predicted sets of objects with their attributes.

    All predictions of all images are taken in order of falling confidence. One is right if the
    nearest of the true objects of its image with the same attributes lies closer than `threshold`
    and no prediction before it was right about that object. The result, in [0, 1], is the area
    under the envelope of precision over recall; NaN without any object.

    Args:
        pred: `[B, K, F]`, columns as below.
        target: `[B, N, F]`, rows whose `real` is 0 are padding.
        threshold: distance in units of the scene; infinity or -1: no limit.
        categories: column ranges of the attributes, compared by their argmax. By default shape,
            size, material and colour of CLEVR.
        position: column range of the coordinates.
        real: column of the confidence.
        scale: width of the scene, what the coordinates were divided by.
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    is_real = target[:, :, real] == 1
    if not is_real.any():
        return np.nan
    candidate = is_real[:, None, :]
    for start, stop in categories:
        value = pred[:, :, start:stop].argmax(-1)[:, :, None]
        candidate = candidate & (value == target[:, :, start:stop].argmax(-1)[:, None, :])
    start, stop = position
    offset = pred[:, :, None, start:stop] - target[:, None, :, start:stop]
    distance = np.where(candidate, np.linalg.norm(scale * offset, axis=-1), np.inf)
    nearest = distance.argmin(-1)
    limit = np.inf if threshold == -1 else threshold
    close = candidate.any(-1) & (distance.min(-1) < limit)

    order = np.argsort(pred[:, :, real].ravel(), kind="stable")[::-1]
    found = (np.arange(len(pred))[:, None] * target.shape[1] + nearest).ravel()[order]
    close = close.ravel()[order]
    first = np.unique(found[close], return_index=True)[1]
    right = np.zeros(len(order), bool)
    right[np.flatnonzero(close)[first]] = True
    return _area_under_envelope(right, is_real.sum())


def _area_under_envelope(right: Array, num_objects: int) -> float:
    """Area under precision over recall, precision made monotone from the right."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / num_objects)
