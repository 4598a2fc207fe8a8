"""Shapes, AKOrN's own set: two to four bright outlines on a grey ground, 40x40.

The published recipe is a program seeded with 1234, so its 42,000 images can be had again exactly
(`official`); `batch` draws from the same distribution from any seed.
"""

import functools
import random as python_random

import numpy as np

from datasets.scenes import random

SIZE = 40  # pixels, height and width
NAMES = ("triangle", "square", "circle", "diamond")  # codes 1..4
NUM_OFFICIAL = 42_000  # train 40,000, validation 1,000, test 1,000
MAX_SHAPES = 4
OVERLAP = 255  # label where outlines cross; the original has -1
_MIN_SHAPES = 2
_STENCIL = 18  # pixels a side
_GROUND = (0.1, 0.6)  # range of the ground's grey
_PUBLISHED_SEED = 1234


def _stencils() -> np.ndarray:
    """Outlines two pixels wide, bool [4, 18, 18], in the order of `NAMES`."""
    row, column = np.mgrid[:_STENCIL, :_STENCIL]
    dy, dx = row - 8, column - 8

    def triangle(top: int, bottom: int, half_width: int) -> np.ndarray:
        inside = abs(dx) * (bottom - top) <= (row - top) * half_width
        return inside & (row >= top) & (row <= bottom)

    def square(low: int, high: int) -> np.ndarray:
        return (np.minimum(row, column) >= low) & (np.maximum(row, column) < high)

    distance, taxi_distance = dx**2 + dy**2, abs(dx) + abs(dy)
    return np.stack(
        [
            triangle(4, 11, 7) & ~triangle(6, 9, 3),
            square(3, 13) & ~square(5, 11),
            (distance < 7**2) & (distance >= 5**2),
            (taxi_distance <= 6) & (taxi_distance > 4),
        ]
    )


STENCILS = _stencils()


def batch(seed: int, index: np.ndarray) -> dict[str, np.ndarray]:
    """Draws scenes from the set's distribution; see `_draw` for what it returns."""
    index = np.asarray(index, np.int64)
    place = SIZE - _STENCIL + 1
    each = (index[:, None], np.arange(MAX_SHAPES))
    low, high = _GROUND
    return _draw(
        ground=low + (high - low) * random.uniform(seed, index, 0),
        count=_MIN_SHAPES + random.integers(MAX_SHAPES - _MIN_SHAPES + 1, seed, index, 1),
        shape=1 + random.integers(len(NAMES), seed, each[0], 2, each[1]),
        row=random.integers(place, seed, each[0], 3, each[1]),
        column=random.integers(place, seed, each[0], 4, each[1]),
    )


def official(seed: int, index: np.ndarray) -> dict[str, np.ndarray]:
    """Scenes `index` < 42,000 of the published set, the same for every `seed`."""
    del seed
    ground, count, layout = _published_layouts()
    shape, row, column = np.moveaxis(layout[index], -1, 0)
    return _draw(ground=ground[index], count=count[index], shape=shape, row=row, column=column)


@functools.lru_cache(maxsize=1)
def _published_layouts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The published program's random numbers in its order: ground, count, (shape, row, column)."""
    generator = python_random.Random(_PUBLISHED_SEED)
    ground, count = np.zeros(NUM_OFFICIAL), np.zeros(NUM_OFFICIAL, np.int64)
    layout = np.ones((NUM_OFFICIAL, MAX_SHAPES, 3), np.int64)
    for scene in range(NUM_OFFICIAL):
        ground[scene] = generator.uniform(*_GROUND)
        count[scene] = generator.randint(_MIN_SHAPES, MAX_SHAPES)
        for number in range(count[scene]):
            layout[scene, number] = (
                generator.randint(1, len(NAMES)),
                generator.randint(0, SIZE - _STENCIL),
                generator.randint(0, SIZE - _STENCIL),
            )
    return ground, count, layout


def _draw(
    ground: np.ndarray, count: np.ndarray, shape: np.ndarray, row: np.ndarray, column: np.ndarray
) -> dict[str, np.ndarray]:
    """Draws the first `count` shapes of each scene.

    Args:
      ground: grey in [0, 1], [N]; count: [N].
      shape: codes 1..4, [N, 4]; row, column: the stencil's top-left pixel, [N, 4].

    Returns:
      `image` uint8 [N, 40, 40, 3]; `segmentation` uint8 [N, 40, 40], 0 background, shape k is
      k + 1, `OVERLAP` where two cross; per entity, background first: `shape`, `row`, `column`
      uint8 [N, 5], `visibility` float32 [N, 5].
    """
    scenes = np.arange(len(ground))
    labels = np.zeros((len(ground), SIZE, SIZE), np.uint8)
    window = np.arange(_STENCIL)
    for number in range(MAX_SHAPES):
        outline = STENCILS[shape[:, number] - 1] & (number < count)[:, None, None]
        place = (
            scenes[:, None, None],
            (row[:, number, None] + window)[:, :, None],
            (column[:, number, None] + window)[:, None, :],
        )
        before = labels[place]
        after = np.where(before == 0, number + 1, OVERLAP).astype(np.uint8)
        labels[place] = np.where(outline, after, before)
    present = np.arange(MAX_SHAPES + 1) <= count[:, None]
    # The original keeps floats and truncates when it loads them.
    grey = np.where(labels > 0, 255, (255 * ground.astype(np.float32))[:, None, None])
    attributes = {"shape": shape, "row": row, "column": column}
    return {
        "image": np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1),
        "segmentation": labels,
        **{
            name: (np.pad(values, ((0, 0), (1, 0))) * present).astype(np.uint8)
            for name, values in attributes.items()
        },
        "visibility": present.astype(np.float32),
    }
