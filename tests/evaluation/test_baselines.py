"""Trivial segmentations on scenes where their answer is known, and their figures on Tetrominoes."""

import numpy as np
import pytest

from akorn_jax import metrics
from akorn_jax.evaluation import baselines
from akorn_jax.evaluation.workers import Workers
from datasets.scenes import tetrominoes, textured_sprites


def same_partition(a, b):
    return np.all(metrics.ari(a, b) == 1)


@pytest.fixture
def scene():
    """Two red squares, one of them shaded, and a blue one on black: image and truth."""
    image, true = np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 16), int)
    squares = (((1, 1), (200, 0, 0)), ((9, 9), (100, 0, 0)), ((1, 9), (0, 0, 255)))
    for i, ((y, x), color) in enumerate(squares):
        image[0, y : y + 5, x : x + 5] = color
        true[0, y : y + 5, x : x + 5] = i + 1
    return image, true


def test_chromaticity_forgets_shading_and_keeps_black():
    colors = np.array([[200, 100, 0], [100, 50, 0], [0, 0, 0]], np.uint8)
    np.testing.assert_allclose(
        baselines.chromaticity(colors), [[1, 0.5, 0], [1, 0.5, 0], [0, 0, 0]]
    )


def test_four_positions_are_the_quadrants():
    labels = baselines.position(np.zeros((2, 4, 6, 3), np.uint8), 4)
    quadrants = np.array([[0, 1], [2, 3]]).repeat(2, 0).repeat(3, 1)
    np.testing.assert_array_equal(labels, [quadrants, quadrants])


@pytest.mark.parametrize("num_clusters", [1, 2, 5, 7, 11])
def test_positions_are_so_many_rectangles_of_similar_area(num_clusters):
    labels = baselines.position(np.zeros((1, 64, 64, 3), np.uint8), num_clusters)
    ids, area = np.unique(labels, return_counts=True)
    np.testing.assert_array_equal(ids, np.arange(num_clusters))
    assert area.max() <= 2.1 * area.min()


def test_pixel_colors_merge_what_shares_a_colour(scene):
    image, true = scene
    assert same_partition(baselines.pixel_colors(image, 3), np.array([0, 1, 1, 2])[true])


def test_components_separate_it_again(scene):
    image, true = scene
    assert same_partition(baselines.color_components(image, 4), true)
    # Three are kept: the last of the equal squares joins the background.
    fewer = baselines.color_components(image, 3)
    assert set(np.unique(fewer)) == {0, 1, 2}
    assert fewer[0, 0, 0] == 0


def test_large_images_are_sampled_and_labelled_in_full(scene):
    image, true = scene
    large = image.repeat(5, 1).repeat(5, 2)
    labels = baselines.color_components(large, 4)
    assert same_partition(labels, true.repeat(5, 1).repeat(5, 2))


def test_token_colors_average_over_patches(scene):
    image, _ = scene
    labels = baselines.token_colors(image, 3, patch_size=8)
    tokens = labels[:, ::8, ::8]
    np.testing.assert_array_equal(labels, tokens.repeat(8, 1).repeat(8, 2))
    assert same_partition(tokens, np.array([[[1, 2], [0, 1]]]))
    with pytest.raises(ValueError, match="patch_size=5"):
        baselines.token_colors(image, 3, patch_size=5)


def test_token_textures_tell_contrast_and_not_arrangement():
    """Black and white in halves: plain grey has their mean; rows and columns are the same."""
    rows = np.tile(np.array([[0], [255]]), (4, 8))
    grey = np.full((8, 8), 128)
    image = np.block([[rows, grey], [rows.T, grey]])[None, ..., None].repeat(3, -1).astype(np.uint8)
    labels = baselines.token_textures(image, 2, patch_size=4)
    assert same_partition(labels, np.tile(np.arange(16) >= 8, (1, 16, 1)).astype(int))
    assert not same_partition(baselines.token_colors(image, 2, patch_size=4), labels)
    with pytest.raises(ValueError, match="patch_size=5"):
        baselines.token_textures(image, 2, patch_size=5)


def test_workers_change_nothing(scene):
    images = scene[0].repeat(3, 0)
    with Workers(1) as workers:
        there = baselines.pixel_colors(images, 3, workers=workers)
    np.testing.assert_array_equal(there, baselines.pixel_colors(images, 3))


def test_repeats_color():
    visibility = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    codes = np.array([[5, 1, 2, 1], [1, 1, 2, 3], [0, 1, 1, 2], [0, 2, 2, 2]])
    expected = [True, False, False, True]
    np.testing.assert_array_equal(baselines.repeats_color(codes, visibility), expected)
    channels = np.eye(6)[codes][..., :3] + codes[..., None] * 10
    np.testing.assert_array_equal(baselines.repeats_color(channels, visibility), expected)
    assert baselines.repeats_color(codes, visibility, first_object=0)[1]


def test_figures_on_tetrominoes():
    """Colour and connection nearly solve the set; without the repeated colours, colour does."""
    scenes = tetrominoes.batch(0, np.arange(60))
    images, true = scenes["image"][:, 1:33, 1:33], scenes["segmentation"][:, 1:33, 1:33]
    repeated = baselines.repeats_color(scenes["color"], scenes["visibility"])
    assert 20 < repeated.sum() < 40  # 1 - 6 * 5 * 4 / 6^3 = 44 %

    def score(labels):
        return metrics.fg_ari(true, labels)

    assert score(baselines.position(images, 4)).mean() == pytest.approx(0.62, abs=0.03)
    tokens = score(baselines.token_colors(images, 4, patch_size=4))
    assert tokens.mean() == pytest.approx(0.77, abs=0.05)
    colors = score(baselines.pixel_colors(images, 4))
    assert colors.mean() == pytest.approx(0.79, abs=0.05)
    np.testing.assert_array_equal(colors[~repeated], 1)
    assert colors[repeated].mean() < 0.65
    assert score(baselines.color_components(images, 4)).mean() == pytest.approx(0.97, abs=0.02)


def test_figures_on_textured_sprites():
    """Nothing here finds them; places do best, because a sprite is in one place."""
    scenes = textured_sprites.batch(0, np.arange(40))
    images, true = scenes["image"], scenes["segmentation"]

    def score(labels):
        return metrics.fg_ari(true, labels).mean()

    assert score(baselines.position(images, 5)) == pytest.approx(0.33, abs=0.06)
    assert score(baselines.token_colors(images, 5, patch_size=4)) < 0.1
    assert score(baselines.token_textures(images, 5, patch_size=4)) < 0.1
    assert score(baselines.pixel_colors(images, 5)) == pytest.approx(0, abs=0.01)
    assert score(baselines.color_components(images, 5)) < 0.1
