"""Slot health: every known failure, made up, is measured and remarked upon; good masks are not."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from sklearn.metrics import adjusted_rand_score

from akorn_jax.data.records import Examples
from akorn_jax.evaluation import base, slot_health
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scores
from akorn_jax.tasks.autoencoding import Task
from configs import base as base_config
from tests.report.test_scores import a_run

N, SIDE, K = 12, 16, 4
RNG = np.random.default_rng(0)


def scenes():
    """Three squares somewhere on a background: `[N, SIDE, SIDE]`."""
    maps = np.zeros((N, SIDE, SIDE), np.uint8)
    for each in maps:
        for label in (1, 2, 3):
            y, x = RNG.integers(0, SIDE - 5, 2)
            each[y : y + 5, x : x + 5] = label
    return maps


TRUE = scenes()


def examples(true=TRUE):
    images = np.repeat((60 * TRUE)[..., None], 3, axis=-1)
    return Examples(images, true, {}, np.arange(N), np.full(N, 3))


def renamed(maps):
    """The same segments, in every image under other names."""
    return np.stack([RNG.permutation(K)[each] for each in maps])


def one_hot(labels, num_slots=K):
    return (labels[:, None] == np.arange(num_slots)[:, None, None]).astype(np.float32)


def measured(masks, found=None, attention=None):
    """The health of masks `[N, K, H, W]` and what is remarked."""
    found = examples() if found is None else found
    kept = slot_health.reduce(ModelOutput(masks=jnp.asarray(masks), attention=attention))
    kept = {name: np.asarray(array) for name, array in kept.items()}
    health = slot_health.measure(masks.argmax(1), kept, found)
    return health, slot_health.remarks(health, found)


STRIPES = np.tile(np.arange(SIDE) // (SIDE // K), (N, SIDE, 1))


def test_good_masks_are_well():
    health, remarks = measured(one_hot(renamed(TRUE)))
    assert remarks == []
    assert 3 < health["slots_used"] <= 4
    assert health["dead_slots"] == 0
    assert health["mask_entropy"] == 0
    assert health["background_by_one"] == 1
    assert health["position_ari"] < 0.2
    assert health["position_r2"] < 0.2


def test_one_slot_takes_all():
    nothing = np.zeros_like(TRUE)
    health, _ = measured(one_hot(nothing))
    _, (remark,) = measured(one_hot(nothing, 1))  # a single slot, so none is dead
    assert health["slots_used"] == 1
    assert health["dead_slots"] == 0.75
    assert health["largest_share"] == 1
    assert health["position_ari"] is None  # nothing to compare
    assert health["position_r2"] is None
    assert remark.startswith("One segment takes 100%")


def test_uniform_masks():
    masks = np.full((N, K, SIDE, SIDE), 1 / K, np.float32)
    masks += 1e-3 * one_hot(renamed(TRUE))
    health, remarks = measured(masks)
    assert health["mask_entropy"] == pytest.approx(1, abs=0.01)
    assert ["alike" in remark for remark in remarks] == [True]


@pytest.mark.parametrize("labels", [STRIPES, renamed(STRIPES)], ids=["same names", "other names"])
def test_stripes(labels):
    health, remarks = measured(one_hot(labels))
    assert health["position_ari"] == 1
    assert health["background_by_one"] == 0
    assert ["the same in all pictures" in remark for remark in remarks] == [True]


def test_stripes_under_the_same_names_are_explained_by_position():
    assert measured(one_hot(STRIPES))[0]["position_r2"] == 1
    assert measured(one_hot(renamed(STRIPES)))[0]["position_r2"] < 0.3


def test_where_the_true_segments_are_stripes_nothing_is_wrong_with_them():
    assert measured(one_hot(STRIPES), examples(STRIPES.astype(np.uint8)))[1] == []


def test_dead_slots():
    health, remarks = measured(one_hot(renamed(TRUE), 10))
    assert health["dead_slots"] == pytest.approx(0.6)
    assert remarks == ["60% of the slots win no pixel of any image: fewer slots would do."]


def test_a_split_background():
    halves = TRUE.copy()
    halves[:, :, : SIDE // 2][TRUE[:, :, : SIDE // 2] == 0] = 4
    health, _ = measured(one_hot(halves, 5))
    assert health["background_by_one"] == 0


def test_entropy():
    p = np.array([0.5, 0.25, 0.25, 0.0], np.float32)
    masks = jnp.asarray(np.broadcast_to(p[None, :, None, None], (1, 4, 2, 2)))
    np.testing.assert_allclose(slot_health.entropy(masks), [1.5 * np.log(2) / np.log(4)], rtol=1e-6)
    assert slot_health.entropy(jnp.ones((2, 1, 3, 3))).tolist() == [0, 0]
    beyond = jnp.asarray([1.25, -0.25]).reshape(1, 2, 1, 1)  # foreground masks that overlap
    assert slot_health.entropy(beyond).tolist() == [0]
    health, _ = measured(one_hot(TRUE), attention=masks)
    assert health["attention_entropy"] == pytest.approx(0.75)


def test_position_ari_is_that_of_scikit_learn():
    labels = RNG.integers(0, K, (5, 8, 8))
    pairs = itertools.pairwise(labels.reshape(5, -1))
    expected = [adjusted_rand_score(one, other) for one, other in pairs]
    assert slot_health.position_ari(labels) == pytest.approx(np.mean(expected))


def test_position_r2_of_noise_is_zero_and_of_a_mixture_its_share():
    noise = RNG.integers(0, K, (400, 8, 8))
    assert slot_health.position_r2(noise, K) < 0.01
    few = [slot_health.position_r2(some, K) for some in np.split(noise, 100)]
    assert np.mean(few) < 0.1  # few images do not make it look better
    half = np.where(RNG.random(noise.shape) < 0.5, noise, np.arange(8) // 2)
    assert slot_health.position_r2(half, K) == pytest.approx(0.25, abs=0.03)  # 1/2 squared


class Clusters(nnx.Module):
    """Features that follow the pixels' colors; no slots."""

    def __call__(self, images, *, key, train):
        angle = 4 * images[..., :1]
        return ModelOutput(features=jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1))


class Masked(nnx.Module):
    def __call__(self, images, *, key, train):
        labels = jnp.rint(images[..., 0] * 255 / 60)
        return ModelOutput(masks=jnp.moveaxis(labels[..., None] == jnp.arange(6.0), -1, 1) * 1.0)


@pytest.mark.parametrize("model", [Clusters(), Masked()])
def test_it_is_part_of_a_segmentation(model):
    config = ConfigDict({"eval": base_config.get_config().eval, "model": {}})
    config.data = ConfigDict({"num_clusters": 4})
    config.eval.update(batch_size=5, baselines=False, num_workers=1)
    result = base.evaluate({"trained": model}, Task(weights={}), examples(), config, step=0)
    assert result.summary["fg_ari"] == 1
    assert result.summary["background_by_one"] == 1
    assert result.summary["remarks"] == []
    slots = isinstance(model, Masked)
    assert ("dead_slots" in result.summary) == slots
    logged = {"slots_used", "largest_share", "background_by_one", "position_ari"}
    assert logged <= result.scalars().keys()
    if slots:
        assert result.summary["dead_slots"] == pytest.approx(1 / 3)
        assert {"dead_slots", "mask_entropy", "position_r2"} <= result.scalars().keys()


def test_the_report_says_what_there_is():
    run = a_run()
    assert scores.health(run) == []
    run.summary.update(slots_used=3.5, position_ari=None, mask_entropy=0.0)
    assert scores.health(run) == [
        (slot_health.MEANINGS["slots_used"], 3.5),
        (slot_health.MEANINGS["mask_entropy"], 0.0),
    ]
