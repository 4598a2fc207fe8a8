"""Up-tiling: identity at factor 1, views are shifts, weaving puts them where they look."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.evaluation import up_tiling
from akorn_jax.layers.resize import resize_bicubic


def test_factor_one_is_the_identity():
    images = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    np.testing.assert_array_equal(up_tiling.tiles(images, 1, 4), images[None])
    np.testing.assert_array_equal(up_tiling.interleave(images[None]), images)


def test_views_are_crops_of_one_enlarged_image():
    images = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    views = up_tiling.tiles(images, 2, 4)
    assert views.shape == (4, 2, 8, 12, 3)
    large = resize_bicubic(images, (10, 14))
    np.testing.assert_array_equal(views[0], large[:, :8, :12])
    np.testing.assert_array_equal(views[1], large[:, :8, 2:])
    np.testing.assert_array_equal(views[2], large[:, 2:, :12])
    np.testing.assert_array_equal(views[3], large[:, 2:, 2:])


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_weaving_patch_means_gives_the_box_filtered_image(factor):
    """A 'network' that averages its patches: together the views sample all shifted averages."""
    patch, size = 4, 16
    images = jax.random.uniform(jax.random.key(0), (1, size, size, 3))
    views = up_tiling.tiles(images, factor, patch)
    features = views.reshape(factor**2, 1, size // patch, patch, size // patch, patch, 3)
    woven = np.asarray(up_tiling.interleave(features.mean((3, 5))))

    shift = patch // factor
    large = np.asarray(resize_bicubic(images, (size + patch - shift,) * 2))
    assert woven.shape == (1, size // shift, size // shift, 3)
    for y in range(size // shift):
        for x in range(size // shift):
            window = large[:, y * shift : y * shift + patch, x * shift : x * shift + patch]
            np.testing.assert_allclose(woven[:, y, x], window.mean((1, 2)), rtol=1e-5)


def test_compiles_as_one_function():
    images = jnp.zeros((1, 8, 8, 3))
    jitted = jax.jit(up_tiling.tiles, static_argnums=(1, 2))
    assert jitted(images, 4, 4).shape == (16, 1, 8, 8, 3)


def test_wrong_factors_are_refused():
    with pytest.raises(ValueError, match="divisor of the patch size 4"):
        up_tiling.tiles(jnp.zeros((1, 8, 8, 3)), 3, 4)
    with pytest.raises(ValueError, match="divisor"):
        up_tiling.tiles(jnp.zeros((1, 8, 8, 3)), 0, 4)
    with pytest.raises(ValueError, match="5 views"):
        up_tiling.interleave(jnp.zeros((5, 1, 2, 2, 3)))
