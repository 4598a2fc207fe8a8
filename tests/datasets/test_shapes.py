"""Shapes: the published program's images again, and its law from other seeds."""

import random

import numpy as np
import pytest

from datasets.scenes import shapes as scenes


def published(count):
    """The first images of the published program, pixel by pixel as it paints them."""
    generator = random.Random(1234)
    for _ in range(count):
        ground = generator.uniform(0.1, 0.6)
        image = np.full((40, 40), ground, np.float32)
        labels = np.zeros((40, 40), int)
        names = []
        for instance in range(1, generator.randint(2, 4) + 1):
            name = generator.randint(1, 4)
            top, left = generator.randint(0, 22), generator.randint(0, 22)
            names.append(name)
            for i, j in np.argwhere(scenes.STENCILS[name - 1]):
                at = top + i, left + j
                labels[at] = instance if labels[at] == 0 else -1
                image[at] = 1.0
        yield (255 * image).astype(np.uint8), labels, names


def test_stencils():
    """Pixel counts and extents of the published outlines (rasterised with scikit-image)."""
    assert scenes.STENCILS.shape == (4, 18, 18)
    extents = [tuple(np.ptp(np.argwhere(s), axis=0) + 1) for s in scenes.STENCILS]
    assert extents == [(8, 15), (10, 10), (13, 13), (13, 13)]
    assert [int(s.sum()) for s in scenes.STENCILS] == [48, 64, 76, 44]


def test_official_is_the_published_set():
    batch = scenes.official(0, np.arange(200))
    for i, (image, labels, names) in enumerate(published(200)):
        np.testing.assert_array_equal(batch["image"][i], np.repeat(image[..., None], 3, -1))
        np.testing.assert_array_equal(batch["segmentation"][i], labels.astype(np.uint8))
        np.testing.assert_array_equal(batch["shape"][i, 1 : 1 + len(names)], names)
        assert batch["visibility"][i].sum() == 1 + len(names)


@pytest.mark.parametrize("draw", [scenes.batch, scenes.official])
def test_a_scene_depends_on_its_index_alone(draw):
    whole = draw(5, np.arange(100))
    some = np.array([3, 50, 99])
    for name, values in draw(5, some).items():
        np.testing.assert_array_equal(values, whole[name][some], err_msg=name)


def test_law():
    batch = scenes.batch(0, np.arange(3000))
    counts = np.bincount(batch["visibility"].sum(1).astype(int) - 1, minlength=5)
    assert counts[:2].sum() == 0
    assert abs(counts[2:] - 1000).max() < 120
    kinds = np.bincount(batch["shape"][batch["shape"] > 0], minlength=5)[1:]
    assert abs(kinds / kinds.sum() - 0.25).max() < 0.02
    ground = batch["image"][..., 0][batch["segmentation"] == 0]
    assert ground.min() == 25
    assert ground.max() in (151, 152, 153)
    assert (batch["image"][..., 0][batch["segmentation"] > 0] == 255).all()
    present = batch["visibility"][:, 1:] > 0
    for axis in ("row", "column"):
        values = batch[axis][:, 1:][present]
        assert values.min() == 0
        assert values.max() == 22
