"""RandAugment (arXiv 1909.13719), random erasing and crops, made on the device inside the step.

The operations are those of torchvision's `RandAugment` on PIL images, on whole 8-bit levels that
are kept as float32. They differ from it so: a position that falls on the border of two pixels, and
a blend that falls on the border of two levels, may round to the other, as PIL computes the one in
fixed point and the other without fused products; `auto_contrast` divides integers exactly where
PIL's product with a reciprocal may fall a level short. Shears are about the upper left corner by
the magnitude itself, as since torchvision 0.13 and in the paper's code; before, they were about the
centre by its tangent.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)
_TRIES = 10  # of a rectangle that fits, before nothing is erased
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # PIL's filter of that name


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """What a random view may be: a crop, then some of `OPERATIONS`, then an erased rectangle.

    Attributes:
        size: side of the square that is cropped at random; 0 keeps the image.
        num_ops: operations one after another, each of them any of the fourteen.
        magnitude: how strong all are, from 0 to `num_bins` - 1.
        num_bins: into how many the range of each strength is cut.
        erase: probability of erasing a rectangle.
        erase_scale: its smallest and largest share of the view's area.
        erase_ratio: its smallest and largest height / width.
        erase_color: what is left there, in [0, 1], e.g. the mean that the model subtracts.
    """

    size: int = 0
    num_ops: int = 2
    magnitude: int = 9
    num_bins: int = 31
    erase: float = 0.0
    erase_scale: tuple[float, float] = (0.02, 0.33)
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    erase_color: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.num_ops < 0:
            raise ValueError(f"num_ops={self.num_ops} must not be negative.")
        if not 0 <= self.magnitude < self.num_bins:
            raise ValueError(
                f"magnitude={self.magnitude}: it is one of 0 to num_bins - 1 = {self.num_bins - 1}."
            )

    def __call__(self, key: Array, image: Array) -> Array:
        """One view `[size, size, 3]`, in [0, 1], of an image `[H, W, 3]` in [0, 1]."""
        # All chances in one draw: each call of the generator costs its compilation.
        sizes = [2, self.num_ops, self.num_ops, 1, 2 * _TRIES + 2]
        chances = jax.random.uniform(key, (sum(sizes),))
        place, kinds, signs, erase, rectangle = jnp.split(chances, np.cumsum(sizes)[:-1])
        if self.size:
            image = random_crop(image, place, self.size)
        levels = jnp.round(image * 255)
        for kind, sign in zip(kinds, signs, strict=True):
            operation = jnp.floor(len(OPERATIONS) * kind).astype(jnp.int32)
            levels = self.apply(levels, operation, jnp.where(sign < 0.5, -1.0, 1.0))
        view = levels / 255
        if self.erase:
            erased = self.rectangle(rectangle, view.shape[:2]) & (erase < self.erase)
            view = jnp.where(erased[..., None], jnp.array(self.erase_color), view)
        return view

    def at_evaluation(self, images: Array) -> Array:
        """The central `size` pixels of images `[..., H, W, 3]`, where views are cropped."""
        return center_crop(images, self.size) if self.size else images

    def apply(self, levels: Array, operation: Array, sign: Array) -> Array:
        """Levels `[H, W, 3]` in 0, 1, ..., 255 after one operation, of the same kind.

        Under `vmap` all of them are computed, so those that are alike share their work.

        Args:
            operation: index of one of `OPERATIONS`, an int32 scalar.
            sign: 1 or -1, the direction of those that have one.
        """
        strength = self.magnitude / (self.num_bins - 1)
        is_ = {name: operation == index for index, name in enumerate(OPERATIONS)}
        shape = levels.shape[:2]
        moves = inverse(
            is_,
            shear=0.3 * strength * sign,
            shift=tuple(sign * int(150 / 331 * side * strength) for side in shape[::-1]),
            angle=jnp.deg2rad(30 * strength * sign),
            shape=shape,
        )
        moved = sample(levels, moves)
        gray = luminance(levels)
        references = {  # what `blend` goes towards or away from
            "brightness": jnp.zeros_like(levels),
            "color": jnp.broadcast_to(gray, levels.shape),
            "contrast": jnp.full_like(levels, jnp.floor(jnp.mean(gray) + 0.5)),
            "sharpness": smooth(levels),
        }
        reference = choose(is_, references, levels)
        others = {
            **dict.fromkeys(references, blend(levels, reference, 1 + 0.9 * strength * sign)),
            "posterize": posterize(levels, 8 - round(4 * strength)),
            "solarize": solarize(levels, 255 * (1 - strength)),
            "auto_contrast": auto_contrast(levels),
            "equalize": equalize(levels),
        }
        return choose(is_, others, moved)

    def rectangle(self, chances: Array, shape: tuple[int, int]) -> Array:
        """Where a view is erased, bool `[H, W]`: the first of ten draws that is smaller than it.

        Args:
            chances: uniform in [0, 1), `[22]`.
            shape: (H, W).
        """
        height, width = shape
        areas, aspects, place = jnp.split(chances, (_TRIES, 2 * _TRIES))
        low, high = self.erase_scale
        areas = height * width * (low + (high - low) * areas)
        low, high = (math.log(ratio) for ratio in self.erase_ratio)
        aspects = jnp.exp(low + (high - low) * aspects)
        h, w = jnp.round(jnp.sqrt(areas * aspects)), jnp.round(jnp.sqrt(areas / aspects))
        fits = (h < height) & (w < width)
        first = jnp.argmax(fits)
        h, w = h[first], w[first]
        top = jnp.floor(place[0] * (height - h + 1))
        left = jnp.floor(place[1] * (width - w + 1))
        rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
        inside = (rows >= top) & (rows < top + h) & (columns >= left) & (columns < left + w)
        return inside & fits[first]


def random_crop(image: Array, chances: Array, size: int) -> Array:
    """The square of that side of an image `[H, W, C]` at a place given by two chances in [0, 1).

    Raises:
        ValueError: the image is smaller.
    """
    _check_crop(image.shape[:2], size)
    room = jnp.array(image.shape[:2]) - size + 1
    top, left = jnp.floor(chances * room).astype(jnp.int32)
    return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, image.shape[2]))


def center_crop(images: Array, size: int) -> Array:
    """The central square of that side of images `[..., H, W, C]`.

    Raises:
        ValueError: the images are smaller.
    """
    shape = images.shape[-3:-1]
    _check_crop(shape, size)
    top, left = (round((side - size) / 2) for side in shape)
    return images[..., top : top + size, left : left + size, :]


def sample(levels: Array, inverse: Array) -> Array:
    """`[H, W, C]` whose pixel (x, y) is that at `inverse` (x, y, 1), the nearest; black outside.

    Args:
        inverse: `[2, 3]`, in pixels, whose centres are at halves.
    """
    height, width = levels.shape[:2]
    x, y = jnp.arange(width) + 0.5, jnp.arange(height)[:, None] + 0.5
    column = jnp.floor(inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]).astype(jnp.int32)
    row = jnp.floor(inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]).astype(jnp.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = levels.reshape(height * width, -1)
    found = pixels[jnp.where(inside, row * width + column, 0)]
    return jnp.where(inside[..., None], found, 0)


def luminance(levels: Array) -> Array:
    """Gray levels `[H, W, 1]`, ITU-R 601 in 16-bit fixed point."""
    r, g, b = jnp.split(levels, 3, axis=-1)
    return jnp.floor((19595 * r + 38470 * g + 7471 * b + 32768) / 65536)


def smooth(levels: Array) -> Array:
    """Each pixel mixed with its eight neighbours; the border stays as it is."""
    H, W = levels.shape[:2]
    inner = sum(
        weight * levels[i : H - 2 + i, j : W - 2 + j] for (i, j), weight in np.ndenumerate(_SMOOTH)
    )
    return levels.at[1:-1, 1:-1].set(jnp.floor(inner + 0.5))


def blend(levels: Array, reference: Array, factor: Array) -> Array:
    """`reference` where the factor is 0, `levels` where it is 1, beyond them above 1."""
    return jnp.floor(jnp.clip(reference + factor * (levels - reference), 0, 255))


def posterize(levels: Array, num_bits: Array | int) -> Array:
    """The upper `num_bits` of 8 bits."""
    step = 2 ** (8 - num_bits)
    return jnp.floor(levels / step) * step


def solarize(levels: Array, threshold: Array | float) -> Array:
    """Levels from the threshold on inverted."""
    return jnp.where(levels < threshold, levels, 255 - levels)


def auto_contrast(levels: Array) -> Array:
    """Each channel stretched to 0, ..., 255; one of a single level stays."""
    low, high = (f(levels, axis=(0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    stretched = jnp.floor(255 * (levels - low) / jnp.maximum(high - low, 1))
    return jnp.where(high > low, stretched, levels)


def equalize(levels: Array) -> Array:
    """Each channel with its histogram made even, as far as whole levels can be.

    A channel that has too few pixels for one per level, the brightest left out, stays as it is.
    """
    values = levels.astype(jnp.int32).reshape(-1, levels.shape[-1])
    # Counts of 256 levels as products of two one-hot codes of their four high and low bits: no
    # scatter, and a sixteenth of the memory.
    high, low = jax.nn.one_hot(values // 16, 16), jax.nn.one_hot(values % 16, 16)
    counts = jnp.einsum("nci,ncj->cij", high, low, precision="highest")
    counts = jnp.round(counts).astype(jnp.int32).reshape(-1, 256)
    last = jnp.take_along_axis(counts, jnp.max(values, axis=0)[:, None], axis=1)
    step = (len(values) - last) // 255
    darker = jnp.cumsum(counts, axis=1) - counts
    table = jnp.minimum((step // 2 + darker) // jnp.maximum(step, 1), 255)  # [C, 256]
    table = jnp.where(step > 0, table, jnp.arange(256))
    evened = jnp.take_along_axis(table, values.T, axis=1).T
    return evened.reshape(levels.shape).astype(levels.dtype)


def inverse(
    is_: dict[str, Array],
    *,
    shear: Array,
    shift: tuple[Array, Array],
    angle: Array,
    shape: tuple[int, int],
) -> Array:
    """`[2, 3]`, from a pixel of the result to that of the image; the identity for other operations.

    Args:
        is_: whether the operation is that of a name.
        shear: pixels to the side for each that is passed.
        shift: (x, y) in pixels.
        angle: in radians, counterclockwise.
        shape: (height, width).
    """
    height, width = shape
    shift_x, shift_y = shift
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2
    zero, one = jnp.zeros(()), jnp.ones(())

    def matrix(*entries: Array) -> Array:
        return jnp.stack(entries).reshape(2, 3)

    turned = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    return choose(
        is_,
        {
            "shear_x": matrix(one, shear, zero, zero, one, zero),
            "shear_y": matrix(one, zero, zero, shear, one, zero),
            "translate_x": matrix(one, zero, -shift_x, zero, one, zero),
            "translate_y": matrix(one, zero, zero, zero, one, -shift_y),
            "rotate": matrix(*turned),
        },
        matrix(one, zero, zero, zero, one, zero),
    )


def choose(is_: dict[str, Array], options: dict[str, Array], other: Array) -> Array:
    """The option whose name is true, or the other."""
    for name, option in options.items():
        other = jnp.where(is_[name], option, other)
    return other


def _check_crop(shape: tuple[int, int], size: int) -> None:
    if min(shape) < size:
        raise ValueError(f"a crop of {size=} does not fit into an image of {shape[0]}x{shape[1]}.")
