"""Every convention against another implementation, on corner cases and on random maps."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import adjusted_rand_score

from akorn_jax import metrics
from akorn_jax.score import conventions
from akorn_jax.score.__main__ import score


def maps(seed, num_true=4, num_pred=5, size=12):
    """A random pair whose segments are blobs rather than noise."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, size, (num_true + num_pred, 2))
    places = np.stack(np.mgrid[:size, :size], -1)[:, :, None]
    near = ((places - centres) ** 2).sum(-1)
    return near[..., :num_true].argmin(-1), near[..., num_true:].argmin(-1)


def one(true, pred, **options):
    found = score({"a": np.asarray(true)}, {"a": np.asarray(pred)}, **options)
    return {name: s["mean"] for name, s in found.items()}


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def brute_force_iou(true, pred, ids):
    """The best sum of IoU of any one-to-one assignment of segments to true ones of these ids."""
    t, p = np.array(ids), np.unique(pred)
    size = max(len(t), len(p))
    iou = np.zeros((size, size))
    for i, a in enumerate(t):
        for j, b in enumerate(p):
            iou[i, j] = ((true == a) & (pred == b)).sum() / ((true == a) | (pred == b)).sum()
    best = max(
        itertools.permutations(range(size)), key=lambda q: sum(iou[i, j] for i, j in enumerate(q))
    )
    return sum(iou[i, best[i]] for i in range(len(t)))


@pytest.mark.parametrize("seed", range(100))
def test_random_maps(seed):
    true, pred = maps(seed, num_true=2 + seed % 4, num_pred=1 + seed % 5)
    found = one(true, pred)
    foreground = true > 0
    objects = [i for i in np.unique(true) if i > 0]
    np.testing.assert_allclose(found["ari"], adjusted_rand_score(true.ravel(), pred.ravel()))
    if not objects:
        return
    np.testing.assert_allclose(
        found["fg_ari"], adjusted_rand_score(true[foreground], pred[foreground])
    )
    best = [
        max(
            ((true == i) & (pred == j)).sum() / ((true == i) | (pred == j)).sum()
            for j in np.unique(pred)
        )
        for i in objects
    ]
    areas = [(true == i).sum() for i in objects]
    np.testing.assert_allclose(found["mbo_image"], np.mean(best))
    np.testing.assert_allclose(found["mbo_object"], np.mean(best))
    np.testing.assert_allclose(found["msc"], np.mean(best))
    np.testing.assert_allclose(found["sc"], np.average(best, weights=areas))
    np.testing.assert_allclose(
        found["miou_true"], brute_force_iou(true, pred, objects) / len(objects), atol=1e-9
    )
    everything = np.unique(true)
    np.testing.assert_allclose(
        found["miou_all"], brute_force_iou(true, pred, everything) / len(everything), atol=1e-9
    )
    reference = metrics.clevrtex_metrics(true[None], pred[None])["mIoU_fg"][0]
    np.testing.assert_allclose(found["miou_clevrtex"], reference)


def test_images_without_objects():
    empty, split = np.zeros((4, 4), int), np.arange(16).reshape(4, 4) // 8
    found = score({"a": empty, "b": split}, {"a": split, "b": split})
    assert found["fg_ari"]["mean"] == 1.0
    assert found["fg_ari"]["without"] == 0
    assert found["fg_ari_skip"]["count"] == 1
    assert found["fg_ari_skip"]["without"] == 1
    assert found["mbo_image"]["without"] == 1
    assert found["mbo_object"]["count"] == 1
    assert found["mbo_image"]["mean"] == 1.0


def test_mbo_per_image_and_per_object_differ_where_counts_do():
    whole = np.array([[0, 0, 1, 1]])
    three = np.array([[1, 2, 3, 3]])
    found = score({"a": whole, "b": three}, {"a": whole, "b": np.zeros((1, 4), int)})
    np.testing.assert_allclose(found["mbo_image"]["mean"], (1 + np.mean([0.25, 0.25, 0.5])) / 2)
    np.testing.assert_allclose(found["mbo_object"]["mean"], np.mean([1, 0.25, 0.25, 0.5]))


def test_panoptic_quality_by_hand():
    true = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0]])
    pred = np.array([[1, 1, 1, 3, 4, 4, 5, 5, 0, 0, 6, 6]])
    # 1 with 1: IoU 3/4. 2 with 4 or 5: 1/2, no match. Predicted 0 and 6 are background.
    # 1 pair, 1 true left (2), 3 predicted left (3, 4, 5).
    np.testing.assert_allclose(one(true, pred)["pq"], 0.75 / (1 + (1 + 3) / 2))
    assert one(true, true)["pq"] == 1


def test_spurious_segments_cost_where_the_rule_says_so():
    true = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    over = np.array([[0, 2, 3, 4, 1, 1, 1, 1]])
    found, perfect = one(true, over), one(true, true)
    assert perfect["miou_clevrtex"] == perfect["miou_true"] == 1
    assert found["miou_true"] == 1
    assert found["miou_visible"] == 1
    assert found["miou_clevrtex"] < 1


def test_ignored_pixels_and_other_backgrounds():
    true = np.array([[7, 7, 1, 1, 255, 255]])
    pred = np.array([[0, 0, 3, 3, 3, 9]])
    found = one(true, pred, background_ids=(7,), ignore_ids=(255,))
    assert found["mbo_image"] == found["miou_true"] == found["ari"] == 1
    assert one(true, pred, background_ids=(7,))["mbo_image"] < 1


def test_frames_are_images_and_videos_keep_their_ids():
    true = np.array([[[1, 0]], [[1, 0]]])
    assert one(true, true)["fg_ari_video"] == 1
    swapped = np.array([[[1, 0]], [[2, 0]]])  # the object changed its id
    found = one(true, swapped)
    assert found["fg_ari"] == found["mbo_image"] == 1
    assert found["fg_ari_video"] == 0
    assert found["mbo_video"] == 0.5
    assert "fg_ari_video" not in one(true[0], swapped[0])


def test_crowds_count_for_nothing():
    true = np.array([[1, 1, 0, 0, -1, -1]])
    pred = np.array([[1, 1, 0, 0, 1, 2]])
    found = one(true, pred)
    assert found["mbo_image"] == found["ari"] == found["pq"] == 1


def test_processes_give_the_same():
    pairs = {str(seed): maps(seed) for seed in range(130)}  # three chunks
    true, pred = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
    assert score(true, pred) == score(true, pred, num_workers=2)


def test_boundaries():
    true = np.zeros((40, 40), int)
    true[10:30, 10:30] = 1
    assert conventions.boundary_f(true, true) == 1
    assert conventions.boundary_f(true * 0, true * 0) == 1
    assert conventions.boundary_f(true, true * 0) == 0
    near = np.roll(true, 1, axis=0)
    far = np.roll(true, 8, axis=0)
    assert conventions.boundary_f(true, near) > 0.99
    assert 0.3 < conventions.boundary_f(true, far) < 0.8


@pytest.mark.parametrize("radius", [1, 2, 5, 19])
def test_borders_grow_by_a_disk(radius):
    border = np.random.default_rng(radius).random((23, 31)) < 0.01
    border[0, 0] = border[-1, 7] = True
    expected = distance_transform_edt(~border) <= radius
    np.testing.assert_array_equal(conventions._dilated(border, radius), expected)
