"""Islands of agreement against a flood fill, and their scores on hierarchies that are known."""

import io

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy import ndimage

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import islands
from akorn_jax.outputs import ModelOutput

RNG = np.random.default_rng(0)


def vectors(labels, dims=6):
    """Levels `[B, h, w, L, D]` that agree within labels `[B, L, h, w]` and nowhere else."""
    table = np.linalg.qr(RNG.normal(size=(64, 64)))[0]
    noise = 0.01 * RNG.normal(size=(*labels.shape, 64))
    return np.moveaxis(table[labels] + noise, 1, 3) * RNG.uniform(1, 3, (1, 1, 1, 1, 1))


def test_islands_are_connected_and_labelled_from_zero():
    """On random maps, those of SciPy's flood fill of each label."""
    labels = RNG.integers(0, 3, (4, 2, 7, 9))
    right, below = (np.asarray(c) for c in islands.cosines(vectors(labels)))
    found = islands.islands(right, below)
    assert found.shape == labels.shape
    for one, of in zip(found.reshape(-1, 7, 9), labels.reshape(-1, 7, 9), strict=True):
        expected, count = np.zeros((7, 9), int), 0
        for label in range(3):
            regions, number = ndimage.label(of == label)
            expected[regions > 0] = (regions + count)[regions > 0]
            count += number
        assert len(np.unique(np.stack([one, expected]).reshape(2, -1), axis=1).T) == count
        np.testing.assert_array_equal(np.unique(one), np.arange(count))


def test_cosines_of_zero_vectors_are_zero():
    right, below = islands.cosines(np.zeros((1, 2, 2, 1, 3)))
    assert np.abs(right).max() == np.abs(below).max() == 0


def examples(images, wholes, parts):
    return Examples(
        images=images,
        segmentation=wholes,
        attributes={"part_segmentation": parts, "label": np.zeros(len(images), np.uint8)},
        records=np.arange(len(images)),
        counts=np.ones(len(images), int),
    )


@pytest.fixture
def hierarchy():
    """(examples, levels): two wholes of two parts each, in 8x8 pixels and 4x4 columns, where level
    1 sees parts and level 2 wholes."""
    count = 6
    parts = np.zeros((count, 8, 8), np.uint8)
    for i in range(count):
        corners = RNG.permutation(4)
        for part, corner in enumerate(corners, 1):
            top, left = 4 * (corner // 2), 4 * (corner % 2)
            parts[i, top : top + 2, left : left + 2 + 2 * (part % 2)] = part
    wholes = (parts + 1) // 2
    images = RNG.integers(0, 255, (count, 8, 8, 3), np.uint8)
    labels = np.stack([parts[:, ::2, ::2], wholes[:, ::2, ::2]], axis=1)
    return examples(images, wholes, parts), vectors(labels).astype(np.float32)


def num_regions(maps):
    """Connected regions of one label, the mean over label maps `[N, H, W]`."""
    return np.mean(
        [sum(ndimage.label(one == label)[1] for label in np.unique(one)) for one in maps]
    )


def evaluator(**eval_fields):
    config = ConfigDict({"data": {"num_clusters": 3, "name": "x/y"}})
    config.eval = ConfigDict({"baselines": True, "num_workers": 1, **eval_fields})
    return islands.Evaluator(config, None)


def kept(evaluator, levels, size=4):
    for start in range(0, len(levels), size):
        trajectory = {"levels": (np.stack([0 * levels, levels])[:, start : start + size],)}
        yield {
            name: np.asarray(value)
            for name, value in evaluator.reduce(ModelOutput(trajectory=trajectory), {}).items()
        }


def test_scores_of_a_known_hierarchy(hierarchy):
    scenes, levels = hierarchy
    scorer = evaluator()
    noise = RNG.normal(size=levels.shape)
    result = scorer.score(
        {"trained": kept(scorer, levels), "untrained": kept(scorer, noise)}, scenes
    )
    summary = result.summary
    assert summary["part_fg_ari_1"] == 1
    assert summary["part_ari_1"] > 0.95  # the ground may fall into two
    assert summary["islands_1"] == num_regions(scenes.attributes["part_segmentation"])
    assert summary["part_fg_ari_2"] < 1  # parts of a whole that touch are one island
    assert 0 < summary["agreement_1"] < 1
    control = summary["baselines"][islands.CONTROL]
    assert control["part_fg_ari_1"] < 0.9
    assert abs(summary["baselines"]["untrained"]["part_ari_1"]) < 0.3
    assert summary["baselines"]["untrained"]["islands_1"] > 14
    assert "part_fg_ari" in summary["baselines"]["color regions"]
    assert list(result.methods)[:2] == ["level 1", "level 2"]
    assert result.methods["level 1"]["part_fg_ari"] == 1
    assert set(result.columns) == {"agreement", "islands", "part_fg_ari", "whole_fg_ari"}
    assert result.scalars()["part_ari_1"] == 1
    assert all(values.shape == (6,) for values in result.per_image.values())
    picture = Image.open(io.BytesIO(result.pictures["islands"]))
    assert picture.size[0] > 300


def test_without_truth_islands_are_counted(hierarchy):
    scenes, levels = hierarchy
    number = num_regions(scenes.attributes["part_segmentation"])
    scenes = Examples(scenes.images, None, {}, scenes.records, scenes.counts)
    scorer = evaluator()
    result = scorer.score({"trained": kept(scorer, levels)}, scenes)
    assert set(result.columns) == {"agreement", "islands"}
    assert result.summary["islands_1"] == number


def test_equal_vectors_have_equal_colors(hierarchy):
    _, levels = hierarchy
    exact = np.round(levels, 1)
    colors = islands.colors(exact)
    assert colors.dtype == np.uint8
    flat, shown = exact.reshape(-1, exact.shape[-1]), colors.reshape(-1, 3)
    _, which = np.unique(flat, axis=0, return_inverse=True)
    for vector in np.unique(which):
        assert np.ptp(shown[which.ravel() == vector], axis=0).max() <= 1
    assert len(np.unique(shown, axis=0)) > 3
    np.testing.assert_array_equal(islands.colors(np.zeros((2, 2))), np.zeros((2, 3)))


def test_a_model_without_levels_is_refused():
    with pytest.raises(UserError, match="has no levels; choose other"):
        evaluator().reduce(ModelOutput(), {})
