"""Laws of the scores; scikit-learn is the oracle of the Rand index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from akorn_jax import metrics

SCORES = (metrics.ari, metrics.fg_ari, metrics.mean_best_overlap, metrics.mean_iou)


@st.composite
def label_maps(draw, max_ids=6):
    """A true and a predicted batch `[B, H, W]`, from coarse blocks and noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, size = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    ids = draw(st.integers(1, max_ids))
    coarse = rng.integers(0, ids, (batch, size, size))
    true = coarse.repeat(3, 1).repeat(3, 2)
    noise = rng.integers(0, draw(st.integers(1, max_ids)), true.shape)
    pred = np.where(rng.random(true.shape) < draw(st.sampled_from([0.0, 0.2, 1.0])), noise, true)
    return true, pred


def relabelled(labels, seed, keep_zero):
    """The same segments under other, far apart ids."""
    ids = np.unique(labels)
    names = np.random.default_rng(seed).permutation(len(ids)) * 1000 + 7
    if keep_zero:
        names[ids == 0] = 0
    return names[np.searchsorted(ids, labels)]


@given(label_maps())
@settings(max_examples=50, deadline=None)
def test_ari_is_scikit_learns(maps):
    true, pred = maps
    expected = [adjusted_rand_score(t.ravel(), p.ravel()) for t, p in zip(true, pred, strict=True)]
    np.testing.assert_allclose(metrics.ari(true, pred), expected, atol=1e-12)


@given(label_maps())
@settings(max_examples=50, deadline=None)
def test_fg_ari_is_scikit_learns_on_the_foreground(maps):
    true, pred = maps
    expected = [adjusted_rand_score(t[t > 0], p[t > 0]) for t, p in zip(true, pred, strict=True)]
    np.testing.assert_allclose(metrics.fg_ari(true, pred), expected, atol=1e-12)


@given(label_maps(), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_names_of_segments_do_not_matter(maps, seed):
    true, pred = maps
    for score in SCORES:
        other = score(relabelled(true, seed, keep_zero=True), relabelled(pred, seed + 1, False))
        np.testing.assert_allclose(score(true, pred), other, atol=1e-12)


@given(label_maps())
@settings(max_examples=30, deadline=None)
def test_ari_is_symmetric(maps):
    true, pred = maps
    np.testing.assert_allclose(metrics.ari(true, pred), metrics.ari(pred, true), atol=1e-12)


@given(label_maps())
@settings(max_examples=50, deadline=None)
def test_overlaps_by_their_definition(maps):
    """Loops over masks, as the formulas are written."""
    true, pred = maps
    best = metrics.mean_best_overlap(true, pred)
    assigned = metrics.mean_iou(true, pred)
    for t, p, score, other in zip(true, pred, best, assigned, strict=True):
        overlaps = [
            max(np.sum((t == k) & (p == c)) / np.sum((t == k) | (p == c)) for c in np.unique(p))
            for k in np.unique(t)
            if k != 0
        ]
        if not overlaps:
            assert np.isnan(score)
            assert np.isnan(other)
            continue
        np.testing.assert_allclose(score, np.mean(overlaps), atol=1e-8)
        assert other <= score + 1e-8  # one segment cannot serve two objects


def test_perfect_and_worst_predictions():
    true = np.arange(4).repeat(16).reshape(1, 8, 8)
    for score in SCORES:
        np.testing.assert_allclose(score(true, true + 5), 1, atol=1e-8)
    one = np.zeros_like(true)
    assert metrics.ari(true, one) == metrics.fg_ari(true, one) == 0
    np.testing.assert_allclose(metrics.mean_best_overlap(true, one), 1 / 4)
    np.testing.assert_allclose(metrics.mean_iou(true, one), 1 / 12)  # it is given to one of them


def test_assigned_iou_lets_the_background_take_part():
    """The only segment belongs to the background, which it fits best; the object gets nothing."""
    true = np.array([[[0, 0, 0, 1]]])
    assert metrics.mean_iou(true, np.zeros_like(true)) == 0
    np.testing.assert_allclose(metrics.mean_best_overlap(true, np.zeros_like(true)), 1 / 4)


def test_images_without_objects():
    true = np.stack([np.zeros((4, 4), int), np.full((4, 4), -1), np.eye(4, dtype=int)])
    pred = np.arange(16).reshape(1, 4, 4).repeat(3, 0)
    np.testing.assert_array_equal(metrics.has_object(true), [False, False, True])
    np.testing.assert_array_equal(metrics.fg_ari(true, pred), [1, 1, 0])
    np.testing.assert_array_equal(
        np.isnan(metrics.mean_best_overlap(true, pred)), [True, True, False]
    )


def test_ignored_pixels_are_as_if_they_were_not_there():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 4, (2, 6, 9)), rng.integers(0, 5, (2, 6, 9))
    framed = [
        np.pad(m, ((0, 0), (2, 1), (0, 0)), constant_values=v) for m, v in ((true, -1), (pred, 77))
    ]
    for score in SCORES:
        np.testing.assert_allclose(score(*framed), score(true, pred))


def test_ignore_id_of_bytes_is_an_argument():
    """255 in a stored map is an object unless the caller says that it is not."""
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 4, (2, 8, 8)), rng.integers(0, 5, (2, 8, 8))
    true[:, :3] = -1
    stored = np.where(true < 0, 255, true).astype(np.uint8)
    for score in SCORES:
        np.testing.assert_allclose(
            score(stored, pred, ignore_ids=(255,)), score(true, pred), rtol=1e-12
        )
        assert np.all(score(stored, pred) != score(true, pred))


def test_several_background_ids():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 5, (2, 8, 8)), rng.integers(0, 5, (2, 8, 8))
    merged = np.where(true == 3, 0, true)
    np.testing.assert_allclose(
        metrics.fg_ari(true, pred, background_ids=(0, 3)), metrics.fg_ari(merged, pred)
    )
    np.testing.assert_allclose(
        metrics.mean_best_overlap(true, pred, background_ids=(0, 3)),
        metrics.mean_best_overlap(merged, pred),
    )


def test_segmentation_scores_are_the_four_scores():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 5, (3, 8, 8)), rng.integers(0, 5, (3, 8, 8))
    scores = metrics.segmentation_scores(true, pred)
    for name, score in zip(("ari", "fg_ari", "mbo", "miou"), SCORES, strict=True):
        np.testing.assert_array_equal(scores[name], score(true, pred))


def test_large_images_do_not_overflow():
    """The products of pair counts leave 64 bits."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, (1, 400, 500))
    pred = np.where(rng.random(true.shape) < 0.1, 1 - true, true)
    np.testing.assert_allclose(
        metrics.ari(true, pred), adjusted_rand_score(true.ravel(), pred.ravel()), rtol=1e-12
    )


def test_wrong_maps_are_refused():
    maps = np.zeros((2, 4, 4), int)
    with pytest.raises(ValueError, match="one shape"):
        metrics.ari(maps, maps[:1])
    with pytest.raises(ValueError, match="pred is float64"):
        metrics.ari(maps, maps.astype(float))
    with pytest.raises(ValueError, match="true is"):
        metrics.ari(maps[0], maps)
    with pytest.raises(ValueError, match="holds id -1"):
        metrics.clevrtex_metrics(maps - 1, maps)


def test_masks_to_labels_takes_the_first_of_equals():
    masks = np.zeros((1, 3, 1, 4))
    masks[0, :, 0] = [[0.5, 0.1, 0.2, 0.0], [0.5, 0.6, 0.2, 0.1], [0.0, 0.3, 0.6, 0.1]]
    np.testing.assert_array_equal(metrics.labels_from_masks(masks), [[[0, 1, 2, 1]]])
    np.testing.assert_array_equal(
        metrics.labels_from_masks(masks, has_background=False), [[[1, 2, 3, 0]]]
    )


def test_average_precision_of_perfect_and_of_far_predictions():
    target = np.zeros((1, 3, 19))
    target[0, :2, [0, 3, 5, 7, 18]] = 1
    target[0, 1, 15] = 0.5
    assert metrics.average_precision(target, target, 0.125) == 1
    moved = target + np.eye(19)[17] * 0.1  # 0.6 in units of the scene
    assert metrics.average_precision(moved, target, 1.0) == 1
    assert metrics.average_precision(moved, target, 0.5) == 0
    assert metrics.average_precision(moved, target, np.inf) == 1
