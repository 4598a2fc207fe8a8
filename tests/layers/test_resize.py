"""Resizing: constants and lines survive, the same size is the identity, masks still sum to 1."""

import jax
import numpy as np

from akorn_jax.layers.resize import cubic_matrix, resize_bicubic, resize_masks


def test_interpolation_keeps_constants_and_lines():
    np.testing.assert_allclose(cubic_matrix(7, 11).sum(1), 1, atol=1e-6)
    line = cubic_matrix(20, 23) @ np.arange(20.0)
    # Keys' kernel is exact for lines only at a = -1/2; here it is close, away from the border.
    centres = (np.arange(23) + 0.5) * 20 / 23 - 0.5
    np.testing.assert_allclose(line[3:-3], centres[3:-3], atol=0.05)


def test_the_same_size_is_the_identity():
    images = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    assert resize_bicubic(images, (8, 12)) is images
    np.testing.assert_allclose(cubic_matrix(9, 9), np.eye(9), atol=1e-7)


def test_rows_and_columns_do_not_mix():
    image = np.arange(5.0)[None, :, None, None] + 10 * np.arange(7.0)[None, None, :, None]
    large = np.asarray(resize_bicubic(image.astype(np.float32), (10, 21)))[0, :, :, 0]
    rows, columns = cubic_matrix(5, 10) @ np.arange(5.0), cubic_matrix(7, 21) @ np.arange(7.0)
    np.testing.assert_allclose(large, rows[:, None] + 10 * columns, rtol=1e-5)


def test_masks_still_sum_to_one():
    masks = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 3, 4, 5)), axis=1)
    large = resize_masks(masks, (9, 11))
    assert large.shape == (2, 3, 9, 11)
    np.testing.assert_allclose(large.sum(axis=1), 1, rtol=1e-6)
    assert (np.asarray(large) >= 0).all()
