"""Laws of sampling at arbitrary points; parity is in tests/parity/test_sprite_components.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.layers import grid_sample as sampling
from akorn_jax.layers import spatial_transformer

affine_points = jax.jit(sampling.affine_points, static_argnums=1)
projective_points = jax.jit(sampling.projective_points, static_argnums=1)
grid_sample = jax.jit(sampling.grid_sample, static_argnames="padding")
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((2, 5, 7, 3), np.float32))
IDENTITY = jnp.eye(2, 3)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_identity_gives_the_image(padding):
    sampled = grid_sample(IMAGES, affine_points(IDENTITY, (5, 7)), padding=padding)
    np.testing.assert_allclose(sampled, IMAGES, atol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_upright_maps_are_those_of_the_separable_transformer(padding):
    theta = jnp.array([[1.7, 0, 0.3], [0, 0.6, -0.2]])
    sampled = grid_sample(IMAGES, affine_points(theta, (4, 6)), padding=padding)

    @jax.jit
    def resampled(images):
        rows, columns = (spatial_transformer.pixel_centers(n) for n in (4, 6))
        return spatial_transformer.resample(
            images, 0.6 * rows - 0.2, 1.7 * columns + 0.3, padding=padding
        )

    expected = resampled(IMAGES)
    np.testing.assert_allclose(sampled, expected, atol=1e-6)


def test_outside_are_zeros_or_the_border():
    far = jnp.full((1, 1, 2), 1e12)
    assert not grid_sample(IMAGES, far).any()
    np.testing.assert_allclose(
        grid_sample(IMAGES, far, padding="border")[:, 0, 0], IMAGES[:, -1, -1]
    )


def test_homographies_of_affine_maps_are_affine():
    """Their grids differ: a homography's spans the image from corner to corner."""
    theta = jnp.array([[0.8, 0.1, 0.2], [-0.3, 1.1, 0.1]])
    matrix = jnp.concatenate([theta, jnp.array([[0.0, 0, 1]])])
    points = projective_points(3 * matrix, (4, 6))  # homogeneous: a factor changes nothing
    y, x = jnp.meshgrid(jnp.linspace(-1, 1, 4), jnp.linspace(-1, 1, 6), indexing="ij")
    expected = jnp.stack([x, y, jnp.ones_like(x)], -1) @ theta.T
    np.testing.assert_allclose(points, expected, atol=1e-5)


def test_leading_axes_broadcast():
    points = affine_points(jnp.stack([IDENTITY, 2 * IDENTITY, -IDENTITY])[:, None], (5, 7))
    sampled = grid_sample(IMAGES, points)
    assert sampled.shape == (3, 2, 5, 7, 3)
    np.testing.assert_allclose(sampled[2], IMAGES[:, ::-1, ::-1], atol=1e-6)


def test_unknown_paddings_are_refused():
    with pytest.raises(ValueError, match="padding='reflect' is unknown"):
        grid_sample(IMAGES, affine_points(IDENTITY, (5, 7)), padding="reflect")
