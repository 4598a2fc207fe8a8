"""Random views of images, made on the device inside the training step.

The recipe is SimCLR's (arXiv 2002.05709, appendix A) with torchvision's definitions of each
operation, in floating point: torchvision rounds to 8 bits after each one.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

Array = jax.Array

_TRIES = 10  # of a crop that fits, before the whole image is taken
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

    def __call__(self, key: Array, image: Array) -> Array:
        """One view `[size, size, 3]`, in [0, 1], of an image `[H, W, 3]` in [0, 1]."""
        crop, flip, jitter = jax.random.split(key, 3)
        box = random_box(crop, image.shape[:2], self.scale, self.ratio)
        planes = resized_crop(image.transpose(2, 0, 1), box, self.size)
        if self.flip:
            flipped = jax.random.bernoulli(flip, self.flip)
            planes = jnp.where(flipped, planes[:, :, ::-1], planes)
        return self._recolor(jitter, planes).transpose(1, 2, 0)

    def _recolor(self, key: Array, planes: Array) -> Array:
        """Brightness, contrast, saturation and hue in random order, then perhaps grayscale."""
        use, order, place, factors, shift, gray = jax.random.split(key, 6)
        use = jax.random.bernoulli(use, self.jitter)
        spread = jnp.array([self.brightness, self.contrast, self.saturation])
        factor = 1 + spread * jax.random.uniform(factors, (3,), minval=-1.0)
        planes = jitter(
            planes,
            order=jax.random.permutation(order, 3),
            place=jax.random.randint(place, (), 0, 4),
            factor=jnp.where(use, factor, 1.0),
            shift=jnp.where(use, self.hue * jax.random.uniform(shift, minval=-1.0), 0.0),
        )
        drop = jax.random.bernoulli(gray, self.grayscale)
        return jnp.where(drop, jnp.broadcast_to(luminance(planes), planes.shape), planes)


def random_box(
    key: Array, shape: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    """(top, left, height, width) of a random crop, in whole pixels.

    The first of ten draws of area and aspect ratio that fits; failing all, the largest central
    crop whose ratio is allowed.
    """
    height, width = shape
    area, aspect, corner = jax.random.split(key, 3)
    areas = height * width * jax.random.uniform(area, (_TRIES,), minval=scale[0], maxval=scale[1])
    logs = math.log(ratio[0]), math.log(ratio[1])
    aspects = jnp.exp(jax.random.uniform(aspect, (_TRIES,), minval=logs[0], maxval=logs[1]))
    w = jnp.round(jnp.sqrt(areas * aspects)).astype(jnp.int32)
    h = jnp.round(jnp.sqrt(areas / aspects)).astype(jnp.int32)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, found = jnp.argmax(fits), jnp.any(fits)

    whole = width / height
    fallback_w = width if whole <= ratio[1] else round(height * ratio[1])
    fallback_h = height if whole >= ratio[0] else round(width / ratio[0])
    h = jnp.where(found, h[first], fallback_h)
    w = jnp.where(found, w[first], fallback_w)
    u = jax.random.uniform(corner, (2,))
    top = jnp.where(found, jnp.floor(u[0] * (height - h + 1)), (height - h) // 2)
    left = jnp.where(found, jnp.floor(u[1] * (width - w + 1)), (width - w) // 2)
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
    sextant = jnp.where(
        value == r,
        (g - b) / safe,
        jnp.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe),
    )
    hue = sextant + 6 * shift

    def channel(n: int) -> Array:
        k = jnp.mod(n + hue, 6)
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)])


def views(augmentation: Augmentation, key: Array, images: Array, num_views: int) -> Array:
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
