"""Shapes and means of residual networks; parity is in tests/parity/test_dti_sprites.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.resnet import ResNet, adaptive_average_pool
from tests.parity.tensors import filled


@pytest.mark.parametrize(("kind", "size"), [("resnet18", 4), ("resnet32", 2)])
def test_features(kind, size):
    model = filled(lambda: ResNet(kind, (4, 8), (size, 1), rngs=nnx.Rngs(0)))
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    call = jax.jit(lambda images: model(images, train=False))
    features = call(images)
    assert features.shape == (3, model.out_features) == (3, 8 * size)
    np.testing.assert_allclose(call(images[1:2])[0], features[1], rtol=1e-5, atol=1e-5)


def test_small_images_keep_their_resolution_in_the_stem():
    model = filled(lambda: ResNet("resnet18", (4, 8), (1, 1), small_images=True, rngs=nnx.Rngs(0)))
    assert not model.max_pool
    assert model.stem.kernel.shape == (3, 3, 3, 4)
    output = jax.eval_shape(lambda x: model(x, train=False), jnp.ones((1, 4, 4, 3)))
    assert output.shape == (1, 8)


def test_regions_cover_the_map():
    x = jnp.arange(5 * 4, dtype=jnp.float32).reshape(1, 5, 4, 1)
    np.testing.assert_allclose(adaptive_average_pool(x, (1, 1))[0, 0, 0, 0], x.mean(), rtol=1e-6)
    pooled = adaptive_average_pool(x, (2, 2))[0, ..., 0]
    np.testing.assert_allclose(pooled[0, 0], x[0, :3, :2].mean(), rtol=1e-6)  # rows overlap
    np.testing.assert_allclose(pooled[1, 1], x[0, 2:, 2:].mean(), rtol=1e-6)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="encoder='resnet50' is unknown"):
        ResNet("resnet50", (4, 8), (1, 1), rngs=nnx.Rngs(0))
