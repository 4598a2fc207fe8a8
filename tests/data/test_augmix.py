"""Operations and whole mixtures against torchvision's `AugMix` on tensors, of recorded draws."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.data import augmix
from akorn_jax.data.augment import Augmentation

ARRAYS = dict(np.load(Path(__file__).parents[1] / "fixtures" / "components" / "o_augmix.npz"))
IMAGE = jnp.asarray(ARRAYS["image"], jnp.float32)


def assert_alike(ours, theirs, border=0.05):
    """The same levels but for one where a value falls on the border of two, which is rare."""
    difference = np.abs(np.asarray(ours) - theirs.astype(np.float32))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= border


@pytest.fixture(scope="module")
def apply():
    return jax.jit(augmix.apply)


@pytest.mark.parametrize("name", augmix.OPERATIONS)
def test_operations_are_torchvisions(apply, name):
    for case in (key for key in ARRAYS if key.startswith(f"{name}/")):
        strength, sign = map(int, case.split("/")[1:])
        ours = apply(IMAGE, augmix.OPERATIONS.index(name), strength, float(sign))
        # A stretch of contrast is a product there that may fall a level short.
        assert_alike(ours, ARRAYS[case], border=0.1 if name == "auto_contrast" else 0.05)


def test_mixtures_are_torchvisions():
    mixed = jax.jit(augmix.mixed)
    for case in range(3):
        drawn = {
            name: ARRAYS[f"mix{case}/{name}"]
            for name in ("share", "weights", "operations", "strengths", "signs", "depths")
        }
        assert_alike(mixed(IMAGE, **drawn), ARRAYS[f"mix{case}/out"], border=0.05)


def test_views_are_mixed():
    """After the other changes, differently for each key, and not at all where it is off."""
    image = IMAGE / 255
    off = {"size": 32, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "jitter": 0.0, "grayscale": 0.0}
    unmixed = jax.jit(lambda key: Augmentation(**off)(key, image))(jax.random.key(0))
    np.testing.assert_allclose(unmixed, image, atol=1e-5)
    views = jax.jit(jax.vmap(Augmentation(**off, augmix=3), in_axes=(0, None)))(
        jax.random.split(jax.random.key(0), 8), image
    )
    levels = np.asarray(views) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
    assert views.min() >= 0
    assert views.max() <= 1
    changes = np.abs(views - image).mean(axis=(1, 2, 3))
    # Of the weakest strength a chain may leave the image as it is.
    assert (changes > 1e-3).sum() >= 4
    assert len(np.unique(changes)) >= 5
    with pytest.raises(ValueError, match="augmix=11 must be 0 to 10"):
        Augmentation(size=32, augmix=11)
