"""Random views of images, made on the device inside the training step.

The recipe is SimCLR's (arXiv 2002.05709, appendix A) with torchvision's definitions of each
operation, in floating point: torchvision rounds to 8 bits after each one.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.data.augmix import BINS, augmix
from akorn_jax.data.rand_augment import RandAugment

Array = jax.Array

_TRIES = 10  # of a crop that fits, before the whole image is taken
_BOX_CHANCES = 2 * _TRIES + 2
_ORDERS = np.array(list(itertools.permutations(range(3))))
_GRAY = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What a random view may be.

    Attributes:
        size: side of the view in pixels.
        scale: smallest and largest share of the image's area that is cropped.
        ratio: smallest and largest width / height of the crop.
        jitter: probability of the colour jitter.
        brightness, contrast, saturation: factors are uniform in 1 ± this.
        hue: shift is uniform in ± this, in turns.
        grayscale: probability of dropping the colours.
        flip: probability of a horizontal flip.
        augmix: severity of the AugMix that follows, 1 to 10; 0 is none.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    flip: float = 0.0
    augmix: int = 0

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise ValueError(f"augmentation.{name}={tuple(value)} must be (smallest, largest)")
        if self.size < 1:
            raise ValueError(f"augmentation.size={self.size} must be 1 or more")
        for name in ("jitter", "grayscale", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name}={getattr(self, name)} must be in [0, 1]")
        if not 0 <= self.augmix <= BINS:
            raise ValueError(f"augmentation.augmix={self.augmix} must be 0 to {BINS}")

    def __call__(self, key: Array, image: Array) -> Array:
        """One view `[size, size, 3]`, in [0, 1], of an image `[H, W, 3]` in [0, 1]."""
        # All chances in one draw: each call of the generator costs its compilation.
        sizes = [_BOX_CHANCES, 1, 1, 3, 1, 1, 1, 1]
        chances = jax.random.uniform(key, (sum(sizes),))
        box, flip, use, factor, shift, order, place, gray = _split(chances, sizes)
        box = random_box(box, image.shape[:2], self.scale, self.ratio)
        planes = resized_crop(image.transpose(2, 0, 1), box, self.size)
        if self.flip:
            planes = jnp.where(flip < self.flip, planes[:, :, ::-1], planes)
        use = use < self.jitter
        spread = jnp.array([self.brightness, self.contrast, self.saturation])
        planes = jitter(
            planes,
            order=jnp.asarray(_ORDERS)[jnp.floor(len(_ORDERS) * order[0]).astype(jnp.int32)],
            place=jnp.floor(4 * place[0]),
            factor=jnp.where(use, 1 + spread * (2 * factor - 1), 1.0),
            shift=jnp.where(use, self.hue * (2 * shift - 1), 0.0),
        )
        drop = gray < self.grayscale
        view = jnp.where(drop, luminance(planes), planes).transpose(1, 2, 0)
        return augmix(jax.random.fold_in(key, 1), view, self.augmix) if self.augmix else view

    def at_evaluation(self, images: Array) -> Array:
        """The images as they are: what is cropped at random keeps objects of all sizes in sight."""
        return images


def make(fields: Mapping[str, Any]) -> Augmentation | RandAugment:
    """The augmentation of a config: `name` is "simclr" (the default) or "rand_augment", the rest
    its fields.

    Raises:
        ValueError: another name, a field that it does not have, or a value out of range.
    """
    fields = dict(fields)
    name = fields.pop("name", "simclr")
    if name not in KINDS:
        raise ValueError(f"augmentation.name={name!r} is unknown; it is one of {', '.join(KINDS)}.")
    for field in fields.keys() - {field.name for field in dataclasses.fields(KINDS[name])}:
        raise ValueError(f"augmentation.{field}: {name} has no such field.")
    return KINDS[name](**fields)


def random_box(
    chances: Array, shape: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    """(top, left, height, width) of a random crop, in whole pixels.

    The first of ten draws of area and aspect ratio that fits; failing all, the largest central
    crop whose ratio is allowed.

    Args:
        chances: uniform in [0, 1), `[22]`.
        shape: (height, width) of the image.
        scale, ratio: see `Augmentation`.
    """
    height, width = shape
    area, aspect, (vertical, horizontal) = _split(chances, [_TRIES, _TRIES, 2])
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspects = jnp.exp(low + (high - low) * aspect)
    w = jnp.round(jnp.sqrt(areas * aspects)).astype(jnp.int32)
    h = jnp.round(jnp.sqrt(areas / aspects)).astype(jnp.int32)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, found = jnp.argmax(fits), jnp.any(fits)

    whole = width / height
    fallback_w = width if whole <= ratio[1] else round(height * ratio[1])
    fallback_h = height if whole >= ratio[0] else round(width / ratio[0])
    h = jnp.where(found, h[first], fallback_h)
    w = jnp.where(found, w[first], fallback_w)
    top = jnp.where(found, jnp.floor(vertical * (height - h + 1)), (height - h) // 2)
    left = jnp.where(found, jnp.floor(horizontal * (width - w + 1)), (width - w) // 2)
    return top.astype(jnp.int32), left.astype(jnp.int32), h, w


def resized_crop(planes: Array, box: tuple[Array, Array, Array, Array], size: int) -> Array:
    """The box of planes `[C, H, W]` at `[C, size, size]`: bilinear with antialiasing, as in PIL."""
    top, left, h, w = box
    rows = resize_weights(planes.shape[1], top, h, size)
    columns = resize_weights(planes.shape[2], left, w, size)
    return jnp.einsum("oh,chw,pw->cop", rows, planes, columns)


def resize_weights(in_size: int, start: Array, length: Array, out_size: int) -> Array:
    """Weights `[out_size, in_size]` that resize the pixels start, ..., start + length - 1."""
    pixel = jnp.arange(in_size)
    scale = length / out_size
    centre = start + (jnp.arange(out_size) + 0.5) * scale
    support = jnp.maximum(scale, 1.0)  # the triangle widens when the crop shrinks
    weights = jnp.maximum(1 - jnp.abs(pixel + 0.5 - centre[:, None]) / support, 0)
    inside = (pixel >= start) & (pixel < start + length)
    weights = jnp.where(inside, weights, 0)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def jitter(planes: Array, order: Array, place: Array, factor: Array, shift: Array) -> Array:
    """Brightness, contrast, saturation and hue, one after another, in any of the 24 orders.

    An order of four is an order of the three blends and a place for the hue. The blends before and
    after that place are masked: a branch would compute all orders under `vmap`.

    Args:
        planes: `[3, H, W]` in [0, 1].
        order: of the blends, `[3]`; see `blend`.
        place: how many blends come before the hue, 0 to 3.
        factor: of each blend, `[3]`.
        shift: of the hue, in turns.
    """
    for i in range(3):
        planes = blend(planes, order[i], jnp.where(i < place, factor[order[i]], 1.0))
    planes = shift_hue(planes, shift)
    for i in range(3):
        planes = blend(planes, order[i], jnp.where(i < place, 1.0, factor[order[i]]))
    return planes


def luminance(planes: Array) -> Array:
    """Gray values `[1, H, W]` of planes `[3, H, W]`."""
    r, g, b = planes
    return (_GRAY[0] * r + _GRAY[1] * g + _GRAY[2] * b)[None]


def blend(planes: Array, kind: Array, factor: Array) -> Array:
    """Planes `[3, H, W]` moved away from or towards a reference, within [0, 1].

    kind 0 is brightness (the reference is black), 1 contrast (the mean gray value), 2 saturation
    (each pixel's gray value).
    """
    gray = luminance(planes)
    reference = jnp.where(kind == 2, gray, jnp.where(kind == 1, jnp.mean(gray), 0.0))
    return jnp.clip(factor * planes + (1 - factor) * reference, 0, 1)


def shift_hue(planes: Array, shift: Array) -> Array:
    """Planes `[3, H, W]` in [0, 1] with the hue (of HSV) moved by `shift` turns."""
    r, g, b = planes
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    safe = jnp.where(chroma > 0, chroma, 1.0)
    # Not `value == r`: a compiler may compute both anew, rounded otherwise. At ties cases agree.
    sextant = jnp.where(
        (r >= g) & (r >= b),
        (g - b) / safe,
        jnp.where(g >= b, 2 + (b - r) / safe, 4 + (r - g) / safe),
    )
    hue = sextant + 6 * shift

    def channel(n: int) -> Array:
        k = jnp.mod(n + hue, 6)
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)])


KINDS = {"simclr": Augmentation, "rand_augment": RandAugment}  # by name, for `make`


def views(
    augmentation: Augmentation | RandAugment, key: Array, images: Array, num_views: int
) -> Array:
    """Independent views of each image, `[B, V, size, size, 3]` in [0, 1].

    Args:
        augmentation: what a view may be.
        key: of the step; image i's views depend on (key, i) alone, whatever device it is on.
        images: `[B, H, W, 3]` uint8.
        num_views: V.
    """

    def of_image(i: Array, image: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, i), num_views)
        return jax.vmap(augmentation, in_axes=(0, None))(keys, image)

    return jax.vmap(of_image)(jnp.arange(len(images)), images.astype(jnp.float32) / 255)


def _split(values: Array, sizes: Sequence[int]) -> list[Array]:
    return jnp.split(values, np.cumsum(sizes)[:-1])
