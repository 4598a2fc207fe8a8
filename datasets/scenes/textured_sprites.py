"""Sprites that only their texture tells from each other and from the ground.

Two to four of dSprites' shapes lie on a ground and over each other. Everything in a scene, the
ground included, is painted in the same two colours, half and half, with a texture of its own:
stripes in one of four directions or checks in one of two. So

  - a colour says nothing about what a pixel belongs to, and connected regions of one colour are
    single stripes;
  - all textures have the same mean, the same deviation and about the same wavelength: only how the
    two colours are arranged differs, and the arrangement's phase is random;
  - the six textures serve sprites and ground alike, so none is typical of either;
  - sprites crowd the middle and cover up to `MAX_HIDDEN` of one another, so that places do not tell
    them apart either.

What is left is to learn which arrangements are one texture. People see the sprites at a glance
(texture segregation, Julesz 1981).
"""

import numpy as np

from datasets.scenes import random
from datasets.scenes.multi_dsprites import INSIDE, SHAPES, sprite_frame

SIZES = (32, 64)  # pixels of a side
TEXTURES = ("columns", "falling", "rows", "rising", "checks", "diamonds")
MIN_SPRITES, MAX_SPRITES = 2, 4
NUM_ENTITIES = 1 + MAX_SPRITES
SCALES = (1.5, 2.2)  # of dSprites' outlines, whose own are .5 to 1: some periods must fit in
CENTRES = (18.0, 46.0)  # 64ths of the picture, from the left and from the top
PERIODS = (3.2, 4.8)  # pixels, however large the picture: the larger, the finer its textures
MAX_HIDDEN = 0.6  # share of a sprite that others may cover

_TILT = 0.08  # radians by which a texture leaves its direction, at most
_DARK, _LIGHT = (0.0, 0.4), (0.6, 1.0)  # ranges of the channels of a scene's two colours
# What a draw is for, the last but one of its counters.
_COUNT, _COLOR, _TEXTURE, _PAINT, _PLACE = range(5)


def batch(seed: int, index: np.ndarray, *, size: int = 32) -> dict[str, np.ndarray]:
    """Draws scenes.

    Args:
      seed: which endless set of scenes.
      index: integers [N], which scenes of it.
      size: the picture's side in pixels, one of `SIZES`.

    Returns:
      `image` uint8 [N, size, size, 3], `segmentation` uint8 [N, size, size] (0 the ground, later
      sprites cover earlier ones), and float32 by entity, the ground first and padding last: `x`,
      `y` in [0, 1], `shape`, `visibility`, `orientation` (radians), `scale`, `texture` (from 1 in
      the order of `TEXTURES`), `period` (pixels) [N, E], and the two colours
      `dark` and `light` [N, E, 3] in [0, 1].
    """
    index = np.asarray(index, np.int64)
    span = MAX_SPRITES - MIN_SPRITES + 1
    count = MIN_SPRITES + random.integers(span, seed, index, 0, _COUNT, 0)
    sprites, labels = _place(seed, index, count, size)
    present = np.arange(NUM_ENTITIES) <= count[:, None]
    order = random.uniform(seed, index[:, None], 0, _TEXTURE, np.arange(len(TEXTURES)))
    texture = np.argsort(order, axis=1)[:, :NUM_ENTITIES]  # all of a scene differ
    numbers = random.uniform(seed, index[:, None, None], 0, _PAINT, _grid(4, NUM_ENTITIES))
    period = _between(PERIODS, numbers[:, 0])
    tilt = _between((-_TILT, _TILT), numbers[:, 1])
    scene = np.arange(len(index))[:, None, None]
    arrangement = (texture, period, tilt, numbers[:, 2], numbers[:, 3])  # [N, E] each
    light = _arrangement(*(values[scene, labels] for values in arrangement))
    numbers = random.uniform(seed, index[:, None, None], 0, _COLOR, _grid(2, 3))
    colors = np.stack([_between(_DARK, numbers[:, 0]), _between(_LIGHT, numbers[:, 1])], axis=1)
    levels = np.rint(255 * colors).astype(np.uint8)  # [N, 2, 3]
    fields = {name: np.pad(values, ((0, 0), (1, 0))) for name, values in sprites.items()}
    fields |= {"texture": texture + 1, "period": period, "visibility": present}
    return {
        "image": levels[scene, light],
        "segmentation": labels,
        **{name: (values * present).astype(np.float32) for name, values in fields.items()},
        **{
            name: (colors[:, None, k] * present[..., None]).astype(np.float32)
            for k, name in enumerate(("dark", "light"))
        },
    }


def _place(
    seed: int, index: np.ndarray, count: np.ndarray, size: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Values [N, MAX_SPRITES] of the sprites and label maps [N, size, size] in which no sprite is
    hidden by more than `MAX_HIDDEN` of what it would show alone."""
    sprites = {
        name: np.empty((len(index), MAX_SPRITES))
        for name in ("shape", "x", "y", "orientation", "scale")
    }
    labels = np.empty((len(index), size, size), np.uint8)
    pending, attempt = np.arange(len(index)), 0
    while pending.size:
        counters = _grid(5, MAX_SPRITES)
        u = random.uniform(seed, index[pending, None, None], attempt, _PLACE, counters)
        drawn = {
            "shape": 1 + np.floor(len(SHAPES) * u[:, 0]),
            "x": _between(CENTRES, u[:, 1]) / 64,
            "y": _between(CENTRES, u[:, 2]) / 64,
            "orientation": 2 * np.pi * u[:, 3],
            "scale": _between(SCALES, u[:, 4]),
        }
        covered = _covered(drawn, count[pending], size)  # [P, MAX_SPRITES, size, size]
        numbers = np.arange(1, NUM_ENTITIES)[:, None, None]
        found = (covered * numbers).max(axis=1)
        shown = (found[:, None] == numbers).sum((2, 3))
        enough = shown >= (1 - MAX_HIDDEN) * covered.sum((2, 3))
        for name, values in drawn.items():
            sprites[name][pending] = values
        labels[pending] = found
        pending, attempt = pending[~enough.all(1)], attempt + 1
    return sprites, labels


def _covered(sprites: dict[str, np.ndarray], count: np.ndarray, size: int) -> np.ndarray:
    """The pixels that each of the first `count` sprites would show alone, [P, K, size, size]."""
    pixel = (np.arange(size) + 0.5) * (64 / size)
    value = {name: values[..., None, None] for name, values in sprites.items()}
    u, v = sprite_frame(
        pixel - 64 * value["x"],
        pixel[:, None] - 64 * value["y"],
        np.cos(value["orientation"]),
        np.sin(value["orientation"]),
        value["scale"],
    )
    covered = np.zeros(u.shape, bool)
    for code, inside in enumerate(INSIDE, 1):
        of_shape = sprites["shape"] == code
        covered[of_shape] = inside(u[of_shape], v[of_shape])
    return covered & (np.arange(MAX_SPRITES) < count[:, None])[..., None, None]


def _arrangement(
    texture: np.ndarray, period: np.ndarray, tilt: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Which of the two colours each pixel has, 0 or 1, of the textures [N, H, W] of the pixels.

    `first` and `second` are phases in periods. A check's period is larger by the root of 2, which
    makes its diagonals as far apart as stripes.
    """
    checked = texture >= 4
    angle = (texture - 4 * checked) * np.pi / 4 + tilt
    period = period * np.where(checked, np.sqrt(2), 1)
    x, y = np.arange(texture.shape[2]) + 0.5, np.arange(texture.shape[1])[:, None] + 0.5
    cos, sin = np.cos(angle), np.sin(angle)
    across = np.floor(2 * ((x * cos + y * sin) / period + first))
    along = np.floor(2 * ((y * cos - x * sin) / period + second))
    return ((across + checked * along) % 2).astype(np.int64)


def _grid(rows: int, columns: int) -> np.ndarray:
    """Counters [rows, columns], from 0 on."""
    return np.arange(rows * columns).reshape(rows, columns)


def _between(limits: tuple[float, float], numbers: np.ndarray) -> np.ndarray:
    """Uniform numbers [0, 1) spread over limits."""
    return limits[0] + (limits[1] - limits[0]) * numbers
