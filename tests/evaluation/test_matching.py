"""Renaming predicted segments."""

import numpy as np

from akorn_jax.evaluation.matching import match_labels
from akorn_jax.metrics import ari, mean_iou


def test_permuted_ids_come_back():
    true = np.random.default_rng(0).integers(0, 5, (3, 6, 6))
    permuted = np.array([3, 0, 4, 1, 2])[true]
    np.testing.assert_array_equal(match_labels(true, permuted), true)


def test_surplus_segments_get_new_ids():
    true = np.array([[[0, 0, 0, 1, 1, 1]]])
    pred = np.array([[[7, 7, 8, 9, 9, 9]]])
    np.testing.assert_array_equal(match_labels(true, pred), [[[0, 0, 2, 1, 1, 1]]])


def test_segments_in_ignored_pixels_get_new_ids():
    true = np.array([[[0, 0, -1, 1]]])
    pred = np.array([[[5, 5, 3, 4]]])
    np.testing.assert_array_equal(match_labels(true, pred), [[[0, 0, 2, 1]]])


def test_scores_do_not_change_and_matched_segments_meet():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 4, (3, 6, 6)), rng.integers(0, 6, (3, 6, 6))
    matched = match_labels(true, pred)
    np.testing.assert_allclose(ari(true, matched), ari(true, pred))
    iou = [
        [np.sum((t == k) & (m == k)) / np.sum((t == k) | (m == k)) for k in range(1, 4)]
        for t, m in zip(true, matched, strict=True)
    ]
    np.testing.assert_allclose(np.mean(iou, 1), mean_iou(true, pred))


def test_true_segments_that_nothing_overlaps_lend_no_name():
    """The second segment is all that is left for the second object, but does not touch it."""
    true = np.array([[[0, 0, 0, 0, 0, 1]]])
    pred = np.array([[[7, 7, 7, 7, 8, 7]]])
    np.testing.assert_array_equal(match_labels(true, pred), [[[0, 0, 0, 0, 2, 0]]])
