"""Each operation against PIL, torchvision's back end, and the laws of the views."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from akorn_jax.data import augment

LEVEL = 1 / 255
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (32, 40, 3), np.uint8)
JITTER = jax.jit(augment.jitter)
PLANES = jnp.array(PICTURE.transpose(2, 0, 1) / 255.0)


def planes_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1) / 255.0


@pytest.mark.parametrize("box", [(0, 0, 32, 40), (3, 5, 20, 30), (10, 2, 9, 7), (31, 39, 1, 1)])
def test_resized_crop_is_pils(box):
    top, left, h, w = box
    ours = augment.resized_crop(PLANES, tuple(map(jnp.asarray, box)), 16)
    crop = Image.fromarray(PICTURE).crop((left, top, left + w, top + h))
    theirs = planes_of(crop.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=1.1 * LEVEL)  # PIL rounds twice


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    ("kind", "enhance"),
    [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)],
)
def test_blends_are_pils(kind, enhance, factor):
    ours = augment.blend(PLANES, jnp.asarray(kind), jnp.asarray(factor))
    theirs = planes_of(enhance(Image.fromarray(PICTURE)).enhance(factor))
    np.testing.assert_allclose(ours, theirs, atol=1.6 * LEVEL)  # PIL rounds the gray values too


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.07, 0.5])
def test_hue_is_colorsys(shift):
    def turn(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + shift) % 1, s, v)

    ours = augment.shift_hue(PLANES, jnp.asarray(shift))
    pixels = np.asarray(PLANES).reshape(3, -1).T
    theirs = np.array([turn(pixel) for pixel in pixels]).T.reshape(PLANES.shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_hue_of_gray_is_gray():
    gray = jnp.full((3, 4, 4), 0.3)
    np.testing.assert_allclose(augment.shift_hue(gray, 0.3), gray, atol=1e-6)


def test_boxes_fit_and_have_the_areas_asked_for():
    chances = jax.random.uniform(jax.random.key(0), (4000, 22))

    @jax.jit
    @jax.vmap
    def box(u):
        return jnp.stack(augment.random_box(u, (64, 64), (0.08, 1.0), (0.75, 4 / 3)))

    top, left, h, w = np.asarray(box(chances)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= 64).all()
    assert (left + w <= 64).all()
    area = h * w / 64**2
    assert 0.07 < area.min() < 0.1
    # Uniform in (.08, 1), less the large elongated ones that do not fit: a plain NumPy draw agrees.
    rng = np.random.default_rng(0)
    a, r = rng.uniform(0.08, 1, 40_000), np.exp(rng.uniform(np.log(0.75), np.log(4 / 3), 40_000))
    fits = (np.sqrt(a * r) <= 1) & (np.sqrt(a / r) <= 1)
    assert abs(area.mean() - a[fits].mean()) < 0.01
    ratio = np.log(w / h)
    assert abs(ratio.mean()) < 0.01


def test_box_falls_back_to_the_centre():
    # An area ten times the image's never fits; the image is wider than 4 / 3.
    box = augment.random_box(jnp.full(22, 0.3), (30, 90), (10.0, 11.0), (0.75, 4 / 3))
    assert [int(v) for v in box] == [0, 25, 30, 40]


def test_views_differ_and_do_not_depend_on_the_batch():
    images = jnp.array(RNG.integers(0, 256, (4, 32, 32, 3), np.uint8))
    make = jax.jit(lambda key, images: augment.views(augment.Augmentation(24), key, images, 2))
    both = make(jax.random.key(1), images)
    assert both.shape == (4, 2, 24, 24, 3)
    assert float(both.min()) >= 0
    assert float(both.max()) <= 1
    assert float(jnp.abs(both[:, 0] - both[:, 1]).max(axis=(1, 2, 3)).min()) > 0.05
    np.testing.assert_allclose(make(jax.random.key(1), images[:2]), both[:2], atol=1e-6)
    assert float(jnp.abs(make(jax.random.key(2), images) - both).max()) > 0.05


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_order_of_the_jitter(order, place):
    factor, shift = jnp.array([1.3, 0.6, 1.4]), jnp.asarray(0.08)
    expected = PLANES
    for kind in (*order[:place], "hue", *order[place:]):
        if kind == "hue":
            expected = augment.shift_hue(expected, shift)
        else:
            expected = augment.blend(expected, jnp.asarray(kind), factor[kind])
    ours = JITTER(PLANES, jnp.array(order), jnp.asarray(place), factor, shift)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def view_of(images, **options):
    """One view of each image, whole."""
    augmentation = augment.Augmentation(8, scale=(1.0, 1.0), ratio=(1.0, 1.0), **options)
    views = jax.jit(lambda images: augment.views(augmentation, jax.random.key(0), images, 1))
    return views(images)[:, 0]


def test_jitter_happens_with_its_probability():
    images = jnp.array(RNG.integers(0, 256, (300, 8, 8, 3), np.uint8))
    view = view_of(images, grayscale=0.0)
    still = jnp.max(jnp.abs(view - images / 255.0), axis=(1, 2, 3)) < 1e-5
    assert abs(float(jnp.mean(still)) - 0.2) < 0.07


def test_grayscale_and_flip_probabilities():
    images = jnp.array(RNG.integers(0, 256, (300, 8, 8, 3), np.uint8))
    gray = view_of(images, jitter=0.0, grayscale=0.2)
    share = float(jnp.mean(jnp.all(jnp.ptp(gray, axis=-1) < 1e-6, axis=(1, 2))))
    assert abs(share - 0.2) < 0.07
    plain = images / 255.0
    flip = view_of(images, jitter=0.0, grayscale=0.0, flip=0.5)
    mirrored = jnp.max(jnp.abs(flip - plain[:, :, ::-1]), axis=(1, 2, 3)) < 1e-5
    assert abs(float(jnp.mean(mirrored)) - 0.5) < 0.1
