"""The U-Net: its resizing, its norms, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers import unet
from tests.parity.tensors import empty, filled


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7), (2, 3)])
def test_doubling_what_was_halved_keeps_every_second_pixel(height, width):
    x = jnp.arange(height * width * 2.0).reshape(1, height, width, 2)
    small = unet.halve(x)
    assert small.shape == (1, height // 2, width // 2, 2)
    large = unet.double(small, x.shape)
    assert large.shape == x.shape
    i, j = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    inside = (i < height // 2 * 2) & (j < width // 2 * 2)
    expected = np.where(inside[..., None], x[0, i // 2 * 2, j // 2 * 2], 0)
    np.testing.assert_array_equal(large[0], expected)


@pytest.mark.parametrize(
    ("num_groups", "axes"), [(None, (1, 2)), (4, (1, 2)), (1, (1, 2, 3))], ids=str
)
def test_norms(num_groups, axes):
    """Without groups each channel of each image has mean 0 and variance 1 before the ReLU."""
    block = unet.Block(3, 4, num_groups=num_groups, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    y = jax.jit(lambda x: block.norm(block.conv(x)))(x)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-3)


def test_shapes_and_reach():
    """The MLP lets every pixel see all others."""
    net = filled(lambda: unet.UNet((16, 19), 3, [4, 8, 8], num_groups=4, rngs=nnx.Rngs(0)))
    x = jax.random.uniform(jax.random.key(0), (2, 16, 19, 3))
    graphdef, state = nnx.split(net)
    forward = jax.jit(lambda x: nnx.merge(graphdef, state)(x))
    y = forward(x)
    assert y.shape == (2, 16, 19, 4)
    moved = forward(x.at[0, 0, 0].add(5.0))
    assert (moved[0, -1, -1] != y[0, -1, -1]).any()
    np.testing.assert_array_equal(moved[1], y[1])


@pytest.mark.parametrize(
    ("size", "levels"), [((16, 16), 5), ((64, 15), 4), ((1, 1), 1)], ids=["square", "low", "one"]
)
def test_images_too_small_for_the_levels_are_refused(size, levels):
    with pytest.raises(ValueError, match="too small") as error:
        empty(lambda: unet.UNet(size, 3, [8] * levels, num_groups=1, rngs=nnx.Rngs(0)))
    assert str(2**levels) in str(error.value)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="12 channels do not divide into 8 groups"):
        unet.Block(3, 12, num_groups=8, rngs=nnx.Rngs(0))


def test_images_of_another_size_are_refused():
    net = empty(lambda: unet.UNet((16, 16), 3, [4, 4], num_groups=1, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"12 x 16 .* 16 x 16: set config\.model\.image_size"):
        net(jnp.zeros((1, 12, 16, 3)))
