"""Groups of images change neither results nor gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers import image_groups
from akorn_jax.layers.image_groups import by_groups
from akorn_jax.models import akorn, itrsa


@pytest.fixture
def sizes(monkeypatch):
    """One CPU device, groups of at most 16 tokens; the sizes of the groups that are computed."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(image_groups, "TOKENS", 16)
    return []


@pytest.mark.parametrize(
    ("images", "grid", "group"),
    [
        (8, (2, 2), 4),
        (2, (2, 2), 2),  # fewer than a group's
        (6, (2, 2), 2),  # half a group's divide them
        (7, (2, 2), 7),  # none near a group's do
        (3, (5, 5), 1),  # an image has more tokens than a group
    ],
)
def test_images_are_computed_in_groups(sizes, images, grid, group):
    def double(x, y):
        sizes.append(len(x))
        return jnp.sum(x * y, axis=(1, 2))

    x = np.random.default_rng(0).normal(size=(images, *grid, 3)).astype(np.float32)
    np.testing.assert_allclose(by_groups(double, x, x), (x * x).sum((1, 2)), rtol=1e-6)
    assert set(sizes) == {group}


def test_a_batch_shared_among_devices_is_one_group(sizes, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    by_groups(lambda x: sizes.append(len(x)) or x, jnp.zeros((8, 2, 2, 3)))
    assert sizes == [8]


@pytest.mark.parametrize("module", [akorn, itrsa])
def test_models_compute_the_same_in_groups(sizes, module):
    model = module.Model(
        channels=8, num_steps=2, patch_size=2, image_size=4, heads=2, rngs=nnx.Rngs(0)
    )
    images = np.random.default_rng(0).uniform(size=(8, 4, 4, 3)).astype(np.float32)

    def loss(model):
        embedding = model(images, key=jax.random.key(0)).embedding
        return jnp.sum(embedding * jnp.arange(embedding.size).reshape(embedding.shape))

    def results():
        gradient = nnx.jit(nnx.value_and_grad(lambda model: loss(model)))
        value, gradient = gradient(model)
        return value, nnx.to_pure_dict(gradient), str(jax.make_jaxpr(lambda: loss(model))())

    value, gradient, jaxpr = results()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 8)
        whole_value, whole_gradient, whole_jaxpr = results()
    assert jaxpr.count("scan[") > whole_jaxpr.count("scan[")
    np.testing.assert_allclose(value, whole_value, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(whole_gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))
