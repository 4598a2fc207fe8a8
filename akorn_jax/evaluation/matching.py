"""Predicted segments under the names of the true ones, so that pictures use the same colours."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from akorn_jax.metrics import Contingency, tables

Array = np.ndarray


def match_labels(true: Array, pred: Array, *, ignore_ids: Sequence[int] = (-1,)) -> Array:
    """Renames predicted segments after the true segments they match.

    Segments are assigned one to one so that the sum of IoU is largest, background included, as
    `akorn_jax.metrics.mean_iou` does it. A segment that matches nothing gets an id of its own,
    above all true ids of the batch.

    Args:
        true: integer label maps `[B, H, W]`.
        pred: the same shape.
        ignore_ids: true ids of pixels that do not count.

    Returns:
        `[B, H, W]` int32.
    """
    true, pred = np.asarray(true), np.asarray(pred)
    fresh = int(true.max()) + 1
    batch = tables(true, pred, ignore_ids)
    return np.stack([_rename(table, p, fresh) for table, p in zip(batch, pred, strict=True)])


def _rename(table: Contingency, pred: Array, fresh: int) -> Array:
    iou = table.counts / table.unions()
    row, column = linear_sum_assignment(iou, maximize=True)
    overlaps = iou[row, column] > 0
    names = dict(zip(table.pred_ids[column[overlaps]], table.true_ids[row[overlaps]], strict=True))
    ids, index = np.unique(pred, return_inverse=True)  # with those seen in ignored pixels alone
    rest = [i for i in ids if i not in names]
    names |= {i: fresh + n for n, i in enumerate(rest)}
    return np.array([names[i] for i in ids], np.int32)[index.reshape(pred.shape)]
