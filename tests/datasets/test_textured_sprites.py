"""Textured sprites: colours, means and deviations tell nothing, and every sprite shows."""

import numpy as np
import pytest

from datasets.scenes import textured_sprites as scenes

NUM = 200


@pytest.fixture(scope="module", params=scenes.SIZES)
def drawn(request):
    return scenes.batch(0, np.arange(NUM), size=request.param)


def test_every_scene_has_two_colors_in_equal_parts_wherever_one_looks(drawn):
    colors = np.stack([drawn["dark"][:, 0], drawn["light"][:, 0]], axis=1)  # [N, 2, 3]
    levels = np.rint(255 * colors)
    light = (drawn["image"] == levels[:, None, None, 1]).all(-1)
    dark = (drawn["image"] == levels[:, None, None, 0]).all(-1)
    assert (light ^ dark).all()
    shares = [light[drawn["segmentation"] == label].mean() for label in range(scenes.NUM_ENTITIES)]
    np.testing.assert_allclose(shares, 0.5, atol=0.03)
    assert drawn["dark"].max() <= 0.4
    assert colors[:, 1].min() >= 0.6


def test_every_sprite_shows_and_none_is_padding(drawn):
    present = drawn["visibility"] > 0
    counts = present.sum(1) - 1
    assert counts.min() == scenes.MIN_SPRITES
    assert counts.max() == scenes.MAX_SPRITES
    for labels, count in zip(drawn["segmentation"], counts, strict=True):
        np.testing.assert_array_equal(np.unique(labels), np.arange(1 + count))
    for name in ("texture", "period", "dark", "light"):
        flat = drawn[name].reshape(*present.shape, -1).max(-1)
        np.testing.assert_array_equal(flat > 0, present)


def test_textures_of_a_scene_differ_and_serve_all(drawn):
    present = drawn["visibility"] > 0
    for texture, there in zip(drawn["texture"], present, strict=True):
        assert len(set(texture[there])) == there.sum()
    for entity in (0, 1, 2):  # the ground and the sprites that every scene has
        counts = np.bincount(drawn["texture"][:, entity].astype(int), minlength=7)[1:]
        assert (counts > NUM / 6 / 2).all()


def test_stripes_repeat_along_themselves():
    """A texture's pixels, next to each other along its direction, are mostly of one colour."""
    batch = scenes.batch(3, np.arange(NUM))
    image = batch["image"].astype(int)
    ground = batch["segmentation"] == 0
    same_below = (image[:, 1:] == image[:, :-1]).all(-1) & ground[:, 1:] & ground[:, :-1]
    same_right = (
        (image[:, :, 1:] == image[:, :, :-1]).all(-1) & ground[:, :, 1:] & ground[:, :, :-1]
    )
    below = same_below.sum((1, 2)) / (ground[:, 1:] & ground[:, :-1]).sum((1, 2))
    right = same_right.sum((1, 2)) / (ground[:, :, 1:] & ground[:, :, :-1]).sum((1, 2))
    texture = batch["texture"][:, 0]
    columns, rows, checks = (texture == code for code in (1, 3, 5))
    assert (below - right)[columns].min() > 0.3
    assert (right - below)[rows].min() > 0.3
    assert abs(right - below)[checks].max() < 0.2


def test_no_sprite_is_hidden_more_than_said():
    batch = scenes.batch(0, np.arange(NUM))
    sprites = {name: batch[name][:, 1:] for name in ("shape", "x", "y", "orientation", "scale")}
    count = (batch["visibility"].sum(1) - 1).astype(int)
    sprites["scale"] = np.where(sprites["scale"] > 0, sprites["scale"], 1)  # padding
    alone = scenes._covered(sprites, count, 32).sum((2, 3))
    shown = np.stack([(batch["segmentation"] == k).sum((1, 2)) for k in range(1, 5)], axis=1)
    least = (1 - scenes.MAX_HIDDEN) * alone
    assert (shown >= least - 2).all()  # attributes are rounded to float32
    assert (shown < 0.9 * alone).any()  # there is occlusion


def test_a_scene_is_the_same_in_any_batch():
    together = scenes.batch(7, np.arange(6))
    alone = scenes.batch(7, np.array([4]))
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], together[name][4])
    other = scenes.batch(8, np.array([4]))
    assert (other["image"] != alone["image"]).any()
