"""Channels become pixels."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.subpixel import ConvBlock, pixel_shuffle


def test_pixel_shuffle():
    """Channel c r^2 + r i + j of a pixel becomes channel c of its sub-pixel (i, j)."""
    x = jnp.arange(2 * 3 * 8).reshape(1, 2, 3, 8)
    y = pixel_shuffle(x, 2)
    assert y.shape == (1, 4, 6, 2)
    for c, i, j in np.ndindex(2, 2, 2):
        np.testing.assert_array_equal(y[:, i::2, j::2, c], x[..., 4 * c + 2 * i + j])


def test_pixel_shuffle_refuses_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="6 channels are not divisible by 4"):
        pixel_shuffle(jnp.zeros((1, 2, 2, 6)), 2)


def test_block():
    """Sizes, and that the norm comes last: every group of an image has mean 0 and deviation 1."""
    block = ConvBlock(3, 4, 4, 2, upscale=4, groups=2, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)))
    y = block(x)
    assert y.shape == (2, 16, 16, 4)
    grouped = np.asarray(y).reshape(2, 16 * 16, 2, 2)
    np.testing.assert_allclose(grouped.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(grouped.std((1, 3)), 1, atol=1e-3)
    bare = ConvBlock(3, 4, 3, bare=True, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(bare(x), bare.conv(x))
