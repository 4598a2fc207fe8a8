"""Glimpses of upright boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.layers import spatial_transformer as st

extract = jax.jit(st.extract, static_argnums=2)
place = jax.jit(st.place, static_argnums=2)
IDENTITY = jnp.array([1.0, 1.0, 0.0, 0.0])


def ramp(height, width):
    """`[h, w, 1]`, linear in both coordinates, which bilinear interpolation keeps exactly."""
    return (2 * st.pixel_centers(height)[:, None] + st.pixel_centers(width) - 0.5)[..., None]


def test_a_glimpse_of_a_linear_image_is_linear():
    where = jnp.array([0.5, 0.3, 0.1, -0.2])
    glimpse = extract(ramp(16, 12), where, (5, 7))
    sx, sy, tx, ty = where
    expected = 2 * (sy * st.pixel_centers(5)[:, None] + ty) + sx * st.pixel_centers(7) + tx - 0.5
    np.testing.assert_allclose(glimpse[..., 0], expected, atol=1e-5)


def test_placing_inverts_extracting():
    """A box of whole pixels: the canvas shows that part of the image, and nothing around it."""
    image = jax.random.normal(jax.random.key(0), (8, 8, 3))
    where = jnp.array([0.5, 0.25, 0.25, -0.25])  # rows 2 to 4, columns 3 to 7
    glimpse = extract(image, where, (2, 4))
    np.testing.assert_allclose(glimpse, image[2:4, 3:7], atol=1e-6)
    inside = np.zeros((8, 8, 1))
    inside[2:4, 3:7] = 1
    np.testing.assert_allclose(place(glimpse, where, (8, 8)), image * inside, atol=1e-6)


def test_boxes_broadcast_against_images():
    images = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    where = jax.random.uniform(jax.random.key(1), (2, 4, 4), minval=0.2, maxval=0.8)
    together = extract(images[:, None], where, (3, 3))
    apart = [[extract(images[b], where[b, n], (3, 3)) for n in range(4)] for b in range(2)]
    np.testing.assert_allclose(together, np.array(apart), atol=1e-6)


def test_a_box_outside_shows_and_leaves_nothing():
    outside = jnp.array([0.3, 0.3, 2.0, 0.0])
    assert not extract(jnp.ones((8, 8, 1)), outside, (4, 4)).any()
    assert not place(jnp.ones((4, 4, 1)), outside, (8, 8)).any()


def test_weights_of_a_point_sum_to_one_inside():
    points = jnp.linspace(-1, 1, 23)
    border = st.bilinear_weights(points, 6, padding="border")
    np.testing.assert_allclose(border.sum(1), 1, atol=1e-6)
    zeros = st.bilinear_weights(points, 6)
    centers = st.pixel_centers(6)
    inside = (points >= centers[0]) & (points <= centers[-1])
    np.testing.assert_allclose(zeros[inside], border[inside], atol=1e-6)
    np.testing.assert_allclose(zeros.sum(1)[jnp.array([0, -1])], 0.5, atol=1e-6)


def test_gradient_of_a_box_is_that_of_what_it_shows():
    """Moving a box over a linear image changes the glimpse by the image's slope."""
    move = jax.jacobian(lambda where: extract(ramp(16, 16), where, (4, 4)).mean())
    np.testing.assert_allclose(move(0.5 * IDENTITY), [0, 0, 1, 2], atol=1e-4)


def test_corners():
    np.testing.assert_allclose(st.corners(IDENTITY), [0, 0, 1, 1])
    box = jnp.array([0.25, 0.5, 0.5, 0.0])  # the right half's middle, as high as half the image
    np.testing.assert_allclose(st.corners(box), [0.25, 0.625, 0.75, 0.875])
    assert st.corners(jnp.array([0.5, 0.5, 1.0, 1.0])).max() == 1


def test_grid_centers_are_row_by_row():
    expected = [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(st.grid_centers(2), expected)


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="padding='wrap' is unknown"):
        st.resample(jnp.ones((4, 4, 1)), jnp.zeros(1), jnp.zeros(1), padding="wrap")
