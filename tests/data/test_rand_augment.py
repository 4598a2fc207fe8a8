"""Each operation against PIL, which torchvision's RandAugment calls, and laws of the views."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from akorn_jax.data import augment
from akorn_jax.data.rand_augment import (
    OPERATIONS,
    RandAugment,
    center_crop,
    random_crop,
)

RNG = np.random.default_rng(0)


def picture(height, width):
    """Smooth colours, noise and flat parts, not the same in all channels."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / 3 + c) * np.cos(y / (4 + c)) for c in range(3)]
    levels = np.stack(waves, axis=-1) + RNG.normal(0, 6, (height, width, 3))
    levels[: height // 3, : width // 3] = (200, 40, 90)
    return np.clip(levels, 20, 240).astype(np.uint8)


PICTURES = [picture(32, 32), picture(28, 20), picture(96, 64), np.full((8, 8, 3), 7, np.uint8)]


def pil(image, name, magnitude, num_bins, sign):
    """What torchvision (0.13 and later) makes of PIL's functions."""
    strength = magnitude / (num_bins - 1)
    width, height = image.size

    def affine(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix)

    match name:
        case "shear_x":
            return affine(1, 0.3 * strength * sign, 0, 0, 1, 0)
        case "shear_y":
            return affine(1, 0, 0, 0.3 * strength * sign, 1, 0)
        case "translate_x":
            return affine(1, 0, -int(150 / 331 * width * strength * sign), 0, 1, 0)
        case "translate_y":
            return affine(1, 0, 0, 0, 1, -int(150 / 331 * height * strength * sign))
        case "rotate":
            return image.rotate(30 * strength * sign)
        case "brightness" | "color" | "contrast" | "sharpness":
            return getattr(ImageEnhance, name.capitalize())(image).enhance(
                1 + 0.9 * strength * sign
            )
        case "posterize":
            bits = 8 - np.round(np.arange(num_bins) / ((num_bins - 1) / 4)).astype(int)
            return ImageOps.posterize(image, int(bits[magnitude]))
        case "solarize":
            return ImageOps.solarize(image, 255 * (1 - strength))
        case "auto_contrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
    return image


@pytest.fixture(scope="module")
def apply():
    """(augmentation, image, name, sign) to an image, compiled once for all names and signs."""
    compiled = jax.jit(lambda a, *arguments: a.apply(*arguments), static_argnums=0)

    def call(augmentation, image, name, sign):
        index = jnp.asarray(OPERATIONS.index(name))
        return np.asarray(compiled(augmentation, jnp.asarray(image, jnp.float32), index, sign))

    return call


@pytest.mark.parametrize("magnitude", [9, 30])
@pytest.mark.parametrize("image", PICTURES, ids=lambda image: "x".join(map(str, image.shape[:2])))
def test_operations_are_pils(apply, image, magnitude):
    augmentation = RandAugment(magnitude=magnitude)
    for name in OPERATIONS:
        for sign in (-1.0, 1.0):
            ours = apply(augmentation, image, name, sign)
            theirs = np.asarray(pil(Image.fromarray(image), name, magnitude, 31, sign), np.float32)
            assert (ours == np.round(ours)).all()
            different = (ours != theirs).any(axis=-1).mean()
            case = f"{name} {sign}: {different:.2%} of the pixels differ"
            if name in OPERATIONS[1:6]:  # a pixel on a border may come from either side
                assert different < 0.02, case
            else:
                assert np.abs(ours - theirs).max() <= 1, case
                assert different < 0.02, case


def test_operations_change_the_picture(apply):
    """So that the comparison with PIL is not one of pictures left alone."""
    for name in OPERATIONS[1:]:
        changed = apply(RandAugment(), PICTURES[0], name, 1.0) != PICTURES[0]
        assert changed.any(axis=-1).mean() > 0.1, name


def test_views_are_random_but_depend_on_key_and_index_alone():
    images = jnp.array(RNG.integers(0, 256, (6, 40, 40, 3), np.uint8))
    augmentation = RandAugment(size=32, erase=0.5)
    make = jax.jit(lambda key, images: augment.views(augmentation, key, images, 2))
    both = make(jax.random.key(1), images)
    assert both.shape == (6, 2, 32, 32, 3)
    assert float(both.min()) >= 0
    assert float(both.max()) <= 1
    assert float(jnp.abs(both[:, 0] - both[:, 1]).max(axis=(1, 2, 3)).min()) > 0.05
    np.testing.assert_array_equal(make(jax.random.key(1), images[:3]), both[:3])
    assert float(jnp.abs(make(jax.random.key(2), images) - both).max()) > 0.05


def test_each_operation_is_as_likely():
    """Of 2,800 single operations, by what they make of one picture."""
    augmentation = RandAugment(num_ops=1, magnitude=15)
    image = jnp.asarray(PICTURES[0], jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2800)
    views = jax.jit(jax.vmap(lambda key: augmentation(key, image / 255).sum(axis=(0, 1))))(keys)
    signs = jnp.array([1.0, -1.0])
    kinds = jnp.arange(len(OPERATIONS))
    outcome = jax.vmap(jax.vmap(augmentation.apply, (None, None, 0)), (None, 0, None))
    known = np.asarray(jax.jit(outcome)(image, kinds, signs).sum(axis=(2, 3)) / 255)  # [14, 2, 3]
    distance = np.abs(np.asarray(views)[:, None, None] - known).sum(axis=-1)  # [2800, 14, 2]
    kind = distance.min(axis=-1).argmin(axis=-1)
    counts = np.bincount(kind, minlength=len(OPERATIONS))
    assert distance.min() < 1e-2
    assert (np.abs(counts - 200) < 5 * math.sqrt(200)).all(), counts
    rotated = distance[kind == OPERATIONS.index("rotate")][:, OPERATIONS.index("rotate")]
    assert 0.3 < (rotated[:, 0] < rotated[:, 1]).mean() < 0.7


def test_erasing():
    """How often, how much, of what shape and colour: as torchvision's law has it."""
    color = (0.25, 0.5, 0.75)
    augmentation = RandAugment(num_ops=0, erase=0.5, erase_color=color)
    image = jnp.ones((40, 30, 3))
    keys = jax.random.split(jax.random.key(0), 3000)
    views = np.asarray(jax.jit(jax.vmap(lambda key: augmentation(key, image)))(keys))
    erased = (views != 1).any(axis=-1)
    np.testing.assert_allclose(views[erased], np.broadcast_to(color, views[erased].shape))
    some = erased.any(axis=(1, 2))
    assert abs(some.mean() - 0.5) < 0.05
    rows, columns = erased[some].any(axis=2), erased[some].any(axis=1)
    h, w = rows.sum(axis=1), columns.sum(axis=1)
    assert (h * w == erased[some].sum(axis=(1, 2))).all(), "rectangles"
    # The same law, drawn by NumPy.
    area = 1200 * RNG.uniform(0.02, 0.33, 40_000)
    ratio = np.exp(RNG.uniform(np.log(0.3), np.log(3.3), 40_000))
    their_h, their_w = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = (their_h < 40) & (their_w < 30)
    assert abs((h * w).mean() - (their_h * their_w)[fits].mean()) < 8
    assert abs(np.log(h / w).mean() - np.log(their_h / their_w)[fits].mean()) < 0.06
    assert rows[:, 0].any() and rows[:, -1].any()  # noqa: PT018


def test_crops():
    image = jnp.arange(48 * 40).reshape(48, 40, 1)
    corners = {
        int(random_crop(image, jnp.array(chances), 32)[0, 0, 0])
        for chances in ((0.0, 0.0), (0.999, 0.999), (0.5, 0.0))
    }
    assert corners == {0, 16 * 40 + 8, 8 * 40}
    np.testing.assert_array_equal(center_crop(image[None], 32)[0], image[8:40, 4:36])
    for crop in (lambda: center_crop(image, 41), lambda: random_crop(image, jnp.zeros(2), 41)):
        with pytest.raises(ValueError, match="size=41 does not fit into an image of 48x40"):
            crop()


def test_a_magnitude_that_has_no_bin_is_refused():
    with pytest.raises(ValueError, match="magnitude=31: it is one of 0 to"):
        RandAugment(magnitude=31)
