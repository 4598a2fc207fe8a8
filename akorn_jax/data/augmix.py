"""AugMix (arXiv 1912.02781) on the device: chains of operations, mixed with the image.

The operations are torchvision's on tensors, which its `AugMix` calls, on whole 8-bit levels kept as
float32. A blend or stretch that falls on the border of two levels may round to the other.
"""

import jax
import jax.numpy as jnp

from akorn_jax.data import rand_augment
from akorn_jax.data.rand_augment import choose

Array = jax.Array

OPERATIONS = (
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
    "brightness",
    "color",
    "contrast",
    "sharpness",
)
WIDTH, DEPTH = 3, 3  # chains, and the most operations of one
BINS = 10  # of the strength
_GRAY = (0.2989, 0.587, 0.114)


def augmix(key: Array, image: Array, severity: int) -> Array:
    """A mixture `[H, W, 3]`, in [0, 1], of an image `[H, W, 3]` in [0, 1].

    Each of three chains has one to three operations, each any of the thirteen, of a strength below
    `severity` of ten; weights are uniform on their simplex.
    """
    weight, share, kind, strength, sign, depth = jax.random.split(key, 6)
    shape = (WIDTH, DEPTH)
    mixture = mixed(
        jnp.round(image * 255),
        share=jax.random.uniform(share),
        weights=jax.random.dirichlet(weight, jnp.ones(WIDTH)),
        operations=jax.random.randint(kind, shape, 0, len(OPERATIONS)),
        strengths=jax.random.randint(strength, shape, 0, severity),
        signs=jax.random.rademacher(sign, shape, jnp.float32),
        depths=jax.random.randint(depth, (WIDTH,), 1, DEPTH + 1),
    )
    return mixture / 255


def mixed(
    levels: Array,
    *,
    share: Array,
    weights: Array,
    operations: Array,
    strengths: Array,
    signs: Array,
    depths: Array,
) -> Array:
    """The mixture of chains, of what is drawn for them.

    Args:
        levels: `[H, W, 3]` in 0, 1, ..., 255.
        share: of the image as it is, in [0, 1].
        weights: of the chains among each other, `[W]`.
        operations: indices of `OPERATIONS`, `[W, D]`.
        strengths: in 0, 1, ..., 9, `[W, D]`.
        signs: 1 or -1, `[W, D]`.
        depths: how many operations of a chain are made, `[W]`.
    """

    def step(chains: Array, drawn: tuple[Array, ...]) -> tuple[Array, None]:
        i, *drawn = drawn
        changed = jax.vmap(apply)(chains, *drawn)
        return jnp.where((i < depths)[:, None, None, None], changed, chains), None

    begin = jnp.broadcast_to(levels, (len(weights), *levels.shape))
    drawn = (operations.T, strengths.T, signs.T)
    chains, _ = jax.lax.scan(step, begin, (jnp.arange(operations.shape[1]), *drawn))
    return jnp.floor(share * levels + (1 - share) * jnp.tensordot(weights, chains, 1))


def apply(levels: Array, operation: Array, strength: Array, sign: Array) -> Array:
    """Levels `[H, W, 3]` after one operation.

    Args:
        levels: in 0, 1, ..., 255.
        operation: index of one of `OPERATIONS`.
        strength: 0, 1, ..., 9.
        sign: 1 or -1, the direction of those that have one.
    """
    part = strength / (BINS - 1)
    is_ = {name: operation == index for index, name in enumerate(OPERATIONS)}
    height, width = levels.shape[:2]
    inverse = rand_augment.inverse(
        is_,
        shear=0.3 * part * sign,
        shift=tuple(sign * jnp.floor(side / 3 * part) for side in (width, height)),
        angle=jnp.deg2rad(30 * part * sign),
        shape=(height, width),
    )
    gray = luminance(levels)
    references = {  # what `blend` goes towards or away from
        "brightness": jnp.zeros_like(levels),
        "color": jnp.broadcast_to(gray, levels.shape),
        "contrast": jnp.full_like(levels, jnp.mean(gray)),
        "sharpness": rand_augment.smooth(levels),
    }
    factor = 1 + sign * jnp.linspace(0, 0.9, BINS)[strength]
    blended = blend(levels, choose(is_, references, levels), factor)
    others = {
        **dict.fromkeys(references, blended),
        "posterize": rand_augment.posterize(levels, 4 - jnp.round(4 * part)),
        "solarize": rand_augment.solarize(levels, 255 * (1 - part)),
        "auto_contrast": rand_augment.auto_contrast(levels),
        "equalize": rand_augment.equalize(levels),
    }
    return choose(is_, others, sample(levels, inverse))


def sample(levels: Array, inverse: Array) -> Array:
    """`[H, W, C]` whose pixel (x, y) is at `inverse` (x, y, 1), bilinear; black outside.

    Args:
        inverse: `[2, 3]`, in pixels, whose centres are at halves.
    """
    height, width = levels.shape[:2]
    x, y = jnp.arange(width) + 0.5, jnp.arange(height)[:, None] + 0.5
    column = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] - 0.5
    row = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] - 0.5
    # A pixel's weight is the product of two triangles, of its row's and of its column's distance.
    rows = jnp.maximum(1 - jnp.abs(row[..., None] - jnp.arange(height)), 0)  # [H, W, h]
    columns = jnp.maximum(1 - jnp.abs(column[..., None] - jnp.arange(width)), 0)  # [H, W, w]
    return jnp.round(jnp.einsum("yxh,yxw,hwc->yxc", rows, columns, levels))


def blend(levels: Array, reference: Array, factor: Array) -> Array:
    """`reference` where the factor is 0, `levels` where it is 1, beyond them above 1."""
    return jnp.floor(jnp.clip(factor * levels + (1 - factor) * reference, 0, 255))


def luminance(levels: Array) -> Array:
    """Gray levels `[H, W, 1]`, cut to whole ones."""
    return jnp.floor(jnp.sum(levels * jnp.array(_GRAY), axis=-1, keepdims=True))
