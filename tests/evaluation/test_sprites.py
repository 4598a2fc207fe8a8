"""Class-aware scores of sprites: laws, and a scene counted by hand."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.evaluation import sprites
from akorn_jax.outputs import ModelOutput


def examples(segmentation, **attributes):
    n = len(segmentation)
    return Examples(None, segmentation, attributes, np.arange(n), np.zeros(n, int))


def test_renamed_sprites_are_perfect():
    truth = np.random.default_rng(0).integers(0, 5, (3, 8, 8))
    renamed = np.array([0, 3, 1, 4, 2])[truth]
    scores = sprites.class_scores(sprites.confusion(truth, renamed, 4))
    assert scores == {"class_acc": 1.0, "class_miou": 1.0}


def test_one_sprite_for_two_classes_is_right_about_one():
    truth = np.repeat([0, 1, 2], [4, 2, 2])[None, None]
    labels = (truth > 0).astype(int)
    scores = sprites.class_scores(sprites.confusion(truth, labels, 1))
    # The background is whole; one class is found, with as many pixels of the other; one is missed.
    assert scores["class_acc"] == pytest.approx((1 + 1 + 0) / 3)
    assert scores["class_miou"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_many_sprites_may_share_a_class():
    truth = np.repeat([0, 1], [4, 4])[None, None]
    labels = np.array([0, 0, 0, 0, 1, 2, 3, 3])[None, None]
    scores = sprites.class_scores(sprites.confusion(truth, labels, 3))
    assert scores == {"class_acc": 1.0, "class_miou": 1.0}


def test_a_class_is_a_shape_and_one_of_two_materials():
    segmentation = np.array([[[0, 1], [2, 3]], [[0, 0], [1, 1]]], np.uint8)
    shape = np.float32([[0, 7, 7, 5], [0, 5, 9, 9]])  # object 2 of the second scene is not visible
    maps = sprites.class_maps(examples(segmentation, shape=shape))
    np.testing.assert_array_equal(maps, [[[0, 2], [2, 1]], [[0, 0], [1, 1]]])
    material = np.uint8([[0, 1, 2, 1], [0, 1, 3, 3]])
    maps = sprites.class_maps(examples(segmentation, shape=shape, material=material))
    np.testing.assert_array_equal(maps, [[[0, 2], [3, 1]], [[0, 0], [1, 1]]])
    assert sprites.class_maps(examples(segmentation)) is None


def test_pixels_are_labelled_with_the_sprite_of_their_slot():
    masks = jnp.array([[[0.5, 0.1, 0.2]], [[0.3, 0.8, 0.2]], [[0.2, 0.1, 0.6]]])  # [K, 1, 3]
    slots = jnp.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # nothing, 1, empty
    output = ModelOutput(
        masks=masks[None], slots=slots[None], dictionary=jnp.zeros((1, 2, 4, 4, 4))
    )
    labels = sprites.sprite_labels(output, (1, 3))
    np.testing.assert_array_equal(labels, [[[0, 2, 0]]])


def test_usage_is_a_share_of_what_sprites_explain():
    labels = np.array([[0, 0, 1, 1], [1, 3, 0, 0]])
    np.testing.assert_allclose(sprites.usage(labels, 3), [0.75, 0, 0.25])
    np.testing.assert_array_equal(sprites.usage(np.zeros((2, 2), int), 3), 0)


def test_the_sheet_is_a_picture():
    dictionary = np.random.default_rng(0).integers(0, 256, (9, 6, 6, 4), np.uint8)
    picture = Image.open(io.BytesIO(sprites.sheet(dictionary, np.arange(9) / 36)))
    assert min(picture.size) > 100
