"""Procedural Multi-dSprites: dSprites' geometry, the published distribution, deterministic."""

import colorsys

import numpy as np
import pytest

from datasets.errors import DatasetError
from datasets.scenes import multi_dsprites as scenes

NUM = 600
KINDS = sorted(scenes.KINDS)


@pytest.fixture(scope="module", params=KINDS)
def drawn(request):
    return scenes.KINDS[request.param], scenes.batch(0, np.arange(NUM), kind=request.param)


def nearest(grid, value):
    return float(grid[np.abs(grid - value).argmin()])


def test_square_is_exact():
    """Half side 9.6: upright at scale 1 and centred on a pixel corner, 20 pixels a side."""
    mask = scenes.sprite_mask(1, 1.0, 0.0, 0.5, 0.5)
    assert mask.dtype == bool
    assert mask.shape == (64, 64)
    expected = np.zeros((64, 64), bool)
    expected[22:42, 22:42] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("shape", "area"), [(1, 19.2**2), (2, np.pi * 12.8 * 7.2), (3, 224.6)])
def test_areas_scale_with_the_square(shape, area):
    for scale in scenes.SCALES:
        areas = [
            scenes.sprite_mask(shape, scale, angle, x, x).sum()
            for angle in scenes.ORIENTATIONS[:10]
            for x in scenes.POSITIONS[::6]
        ]
        assert abs(np.mean(areas) - area * scale**2) < 0.02 * area


def test_heart_proportions():
    """dSprites: width 19.2, height 18.3, centroid 1.93 above the centre of rotation."""
    upright = [scenes.sprite_mask(3, 1.0, 0.0, x, x) for x in scenes.POSITIONS]
    rows = [np.argwhere(m)[:, 0] + 0.5 for m in upright]
    columns = [np.argwhere(m)[:, 1] for m in upright]
    centres = 16 + 32 * scenes.POSITIONS
    assert abs(np.mean([np.ptp(c) + 1 for c in columns]) - 19.2) < 0.7
    assert abs(np.mean([np.ptp(r) + 1 for r in rows]) - 18.3) < 0.7
    lift = np.mean([centre - r.mean() for centre, r in zip(centres, rows, strict=True)])
    assert abs(lift - 1.93) < 0.1


def test_orientation_is_counter_clockwise_on_the_screen():
    quarter = scenes.sprite_mask(3, 1.0, np.pi / 2, 0.5, 0.5)
    np.testing.assert_array_equal(quarter, np.rot90(scenes.sprite_mask(3, 1.0, 0.0, 0.5, 0.5)))
    full_turn = scenes.sprite_mask(3, 0.7, scenes.ORIENTATIONS[-1], 0.3, 0.5)
    np.testing.assert_array_equal(full_turn, scenes.sprite_mask(3, 0.7, 0.0, 0.3, 0.5))


def test_position():
    for x, y in ((0, 0), (1, 0), (0.25, 0.75)):
        where = np.argwhere(scenes.sprite_mask(2, 0.5, 0.0, x, y)) + 0.5
        np.testing.assert_allclose(where.mean(0), [16 + 32 * y, 16 + 32 * x], atol=0.1)


def test_refuses_what_dsprites_lacks():
    with pytest.raises(DatasetError, match="shape=4"):
        scenes.sprite_mask(4, 1.0, 0.0, 0.5, 0.5)
    with pytest.raises(DatasetError, match=r"1\.5"):
        scenes.sprite_mask(1, 1.0, 0.0, 1.5, 0.5)


def test_label_maps_are_the_sprites_later_over_earlier(drawn):
    _, batch = drawn
    for i in range(40):
        expected = np.zeros((64, 64), np.uint8)
        for entity in np.flatnonzero(batch["visibility"][i])[1:]:
            value = {name: batch[name][i, entity] for name in scenes._GRIDS}
            on_grid = {name: nearest(grid, value[name]) for name, grid in scenes._GRIDS.items()}
            expected[scenes.sprite_mask(**{**on_grid, "shape": int(value["shape"])})] = entity
        np.testing.assert_array_equal(batch["segmentation"][i], expected)


def test_every_listed_sprite_shows(drawn):
    spec, batch = drawn
    listed = batch["visibility"].sum(1) - 1
    shown = [len(np.unique(labels)) - 1 for labels in batch["segmentation"]]
    np.testing.assert_array_equal(listed, shown)
    assert listed.min() == spec.min_sprites
    assert listed.max() == spec.max_sprites
    assert batch["visibility"].shape == (NUM, spec.num_entities)
    assert (batch["visibility"][:, 0] == 1).all()


def test_counts_are_uniform(drawn):
    spec, batch = drawn
    counts = np.bincount((batch["visibility"].sum(1) - 1).astype(int))[spec.min_sprites :]
    expected = NUM / len(counts)
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_pixels_have_the_listed_colors(drawn):
    _, batch = drawn
    for i in range(40):
        colors = np.rint(batch["color"][i] * 255)
        np.testing.assert_array_equal(batch["image"][i], colors[batch["segmentation"][i]])


def test_palettes():
    batch = scenes.batch(0, np.arange(NUM), kind="colored_on_grayscale")
    present = batch["visibility"][:, 1:] > 0
    hsv = np.array([colorsys.rgb_to_hsv(*c) for c in batch["color"][:, 1:][present].astype(float)])
    assert hsv[:, 1:].min() >= 0.5 - 1e-6
    assert abs(hsv[:, 1:].mean() - 0.75) < 0.01
    assert abs(hsv[:, 0].mean() - 0.5) < 0.03
    ground = batch["color"][:, 0]
    assert (ground == ground[:, :1]).all()
    assert ground.min() < 0.05
    assert ground.max() > 0.95
    rgb = scenes.batch(0, np.arange(NUM), kind="colored_on_colored")["color"][:, 0]
    assert abs(np.corrcoef(rgb[:, 0], rgb[:, 1])[0, 1]) < 0.15


def test_a_scene_depends_on_seed_and_index_alone(drawn):
    spec, batch = drawn
    kind = next(name for name, value in scenes.KINDS.items() if value is spec)
    some = np.array([3, 77, 411])
    for name, values in scenes.batch(0, some, kind=kind).items():
        np.testing.assert_array_equal(values, batch[name][some], err_msg=name)
    other = scenes.batch(1, some, kind=kind)["segmentation"]
    assert (other != batch["segmentation"][some]).any((1, 2)).all()
