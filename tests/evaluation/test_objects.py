"""Boxes and counts against what can be said by hand, and against another implementation."""

import io

import numpy as np
import pytest
from PIL import Image

from akorn_jax.evaluation import objects
from akorn_jax.evaluation.objects import Detections

LEFT, RIGHT = np.array([0, 0, 1, 0.5]), np.array([0, 0.5, 1, 1])


def test_true_boxes_are_tight():
    labels = np.zeros((2, 8, 4), int)
    labels[0, 2:5, 1:4] = 3
    labels[0, 7, 0] = 1
    labels[0, 0, 0] = 255
    first, second = objects.true_boxes(labels, ignore_ids=(255,))
    np.testing.assert_array_equal(first, [[7 / 8, 0, 1, 1 / 4], [2 / 8, 1 / 4, 5 / 8, 1]])
    assert second.shape == (0, 4)


def test_box_iou_counts_pixels():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 20, (2, 9, 2, 2)), axis=2)  # [2, 9, low or high, y or x]
    a, b = corners.reshape(2, 9, 4)

    def pixels(box):
        mask = np.zeros((20, 20), bool)
        mask[box[0] : box[2], box[1] : box[3]] = True
        return mask

    iou = objects.box_iou(a / 20, b / 20)
    for i, j in np.ndindex(iou.shape):
        both, either = pixels(a[i]) & pixels(b[j]), pixels(a[i]) | pixels(b[j])
        np.testing.assert_allclose(iou[i, j], both.sum() / max(either.sum(), 1), atol=1e-12)


def test_an_object_is_found_once():
    true = np.stack([LEFT])
    right = objects.right_boxes(np.stack([LEFT, LEFT]), np.array([0.8, 0.9]), true)
    np.testing.assert_array_equal(right, [False, True])


def test_the_surer_one_chooses_first():
    """It takes its best; what is left may still be the other's."""
    true = np.stack([LEFT, RIGHT])
    whole = np.array([0, 0, 1, 1.0])  # overlaps both by half, and takes the first
    right = objects.right_boxes(np.stack([LEFT, whole]), np.array([0.6, 0.9]), true)
    np.testing.assert_array_equal(right, [False, True])
    right = objects.right_boxes(np.stack([LEFT, whole]), np.array([0.9, 0.6]), true)
    np.testing.assert_array_equal(right, [True, True])


def test_scores_by_hand():
    """Two scenes with 2 and 1 objects; 3 predictions, of which 2 are right."""
    found = Detections(
        boxes=np.stack([[LEFT, RIGHT], [RIGHT, LEFT]]),
        presence=np.array([[0.9, 0.2], [0.8, 0.7]]),
    )
    true = [np.stack([LEFT, RIGHT]), np.stack([LEFT])]
    scores = objects.box_scores(found, true)
    assert scores["box_precision"] == pytest.approx(2 / 3)
    assert scores["box_recall"] == pytest.approx(2 / 3)
    # In order of presence: right, wrong, right, right; the envelope is 1, 3/4, 3/4.
    assert scores["box_ap"] == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    counts = objects.count_scores(found, true)
    np.testing.assert_array_equal(counts["count_error"], [1, 1])
    np.testing.assert_array_equal(counts["count_accuracy"], [0, 0])


def test_average_precision_of_distinct_confidences():
    """Against the sum over right predictions of the best precision at their recall or more."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        confidence, right = rng.random(30), rng.random(30) < 0.4
        ranked = right[np.argsort(-confidence)]
        precision = np.cumsum(ranked) / np.arange(1, 31)
        expected = sum(precision[i:].max() for i in np.flatnonzero(ranked)) / 20
        assert objects.average_precision(confidence, right, 20) == pytest.approx(expected)


def test_equal_confidences_have_no_order():
    rng = np.random.default_rng(0)
    confidence, right = np.round(rng.random(40), 1), rng.random(40) < 0.5
    expected = objects.average_precision(confidence, right, 30)
    for _ in range(5):
        order = rng.permutation(40)
        assert objects.average_precision(confidence[order], right[order], 30) == expected
    hard = np.ones(40)
    assert objects.average_precision(hard, right, 40) == pytest.approx((right.sum() / 40) ** 2)


def test_nothing_to_find_and_nothing_found():
    nobody = Detections(np.zeros((2, 3, 4)), np.zeros((2, 3)))
    assert objects.box_scores(nobody, [np.zeros((0, 4))] * 2) == {
        "box_precision": None,
        "box_recall": None,
        "box_ap": None,
    }
    scores = objects.box_scores(nobody, [np.stack([LEFT])] * 2)
    assert scores == {"box_precision": None, "box_recall": 0.0, "box_ap": 0.0}
    counts = objects.count_scores(nobody, [np.zeros((0, 4))] * 2)
    np.testing.assert_array_equal(counts["count_accuracy"], 1)


def test_constant_count_is_the_best_constant():
    true = [np.zeros((n, 4)) for n in (1, 2, 2, 3, 5)]
    scores = objects.constant_count(true)
    counts = np.array([1, 2, 2, 3, 5])
    assert scores["count_accuracy"] == max(np.mean(counts == n) for n in range(6))
    assert scores["count_error"] == min(np.mean(np.abs(counts - n)) for n in range(6))


def test_color_components_find_plain_squares():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, 4:12, 4:12] = (255, 0, 0)
    images[0, 16:30, 20:30] = (0, 0, 255)
    found = objects.color_components(images, num_clusters=3, num_workers=1)
    labels = np.zeros((1, 32, 32), int)
    labels[0, 4:12, 4:12], labels[0, 16:30, 20:30] = 1, 2
    scores = objects.box_scores(found, objects.true_boxes(labels))
    assert scores == {"box_precision": 1.0, "box_recall": 1.0, "box_ap": 1.0}


def test_picture_shows_wrong_boxes():
    images = np.full((2, 16, 16, 3), 128, np.uint8)
    true = [np.stack([LEFT]), np.zeros((0, 4))]
    found = Detections(np.stack([[LEFT], [RIGHT]]), np.ones((2, 1)))
    pixels = np.asarray(
        Image.open(io.BytesIO(objects.picture(found, true, images))).convert("RGB")
    ).astype(int)
    middle = pixels.shape[1] // 2
    for part, color in ((pixels[:, :middle], (0, 119, 187)), (pixels[:, middle:], (204, 51, 17))):
        assert (np.abs(part - color).max(-1) < 30).any(), color
