"""Tetrominoes drawn as in the published set: three pieces of 5x5-pixel bevelled tiles on black.

The tile and the grid were read off published records: integer positions, no overlap, pieces
wholly inside the image, a colour may repeat. The README of the set says 17 shapes; users found
all 19 fixed tetrominoes in it (deepmind/multi_object_datasets, discussion 10), so 19 it is.
"""

from collections.abc import Sequence

import numpy as np

from datasets.errors import DatasetError
from datasets.scenes import random

SIZE = 35  # pixels, height and width
NUM_PIECES = 3
_CELL = 5
_MAX_TRIES = 64  # placements of one piece before the whole scene is drawn anew

# Cells as rows of '#', top-left aligned.
_CELLS = {
    "I0": "####", "I1": "#/#/#/#", "O": "##/##",
    "T0": "###/.#.", "T1": ".#/##/.#", "T2": ".#./###", "T3": "#./##/#.",
    "S0": ".##/##.", "S1": "#./##/.#", "Z0": "##./.##", "Z1": ".#/##/#.",
    "J0": "#../###", "J1": "##/#./#.", "J2": "###/..#", "J3": ".#/.#/##",
    "L0": "..#/###", "L1": "#./#./##", "L2": "###/#..", "L3": "##/.#/.#",
}  # fmt: skip
NAMES = tuple(_CELLS)
COLORS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1),
    "yellow": (1, 1, 0), "magenta": (1, 0, 1), "cyan": (0, 1, 1),
}  # fmt: skip

_TILE = np.array(
    [
        [191, 255, 255, 255, 223],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [95, 63, 63, 63, 127],
    ],
    np.uint8,
)


def _sprite(cells: str) -> np.ndarray:
    """Grey values [h, w] of one piece."""
    return np.kron(np.array([[c == "#" for c in row] for row in cells.split("/")]), _TILE)


_SPRITES = tuple(_sprite(cells) for cells in _CELLS.values())
_EXTENT = np.array([sprite.shape for sprite in _SPRITES])  # pixels, [19, (height, width)]
_REACH = int(_EXTENT.max())
_PADDED = np.zeros((len(_SPRITES), _REACH, _REACH), np.uint8)
for _index, _piece in enumerate(_SPRITES):
    _PADDED[_index, : _piece.shape[0], : _piece.shape[1]] = _piece
# Each pixel row of a piece as the bits of one integer, so that overlap is a bitwise and.
_ROW_BITS = ((_PADDED > 0) << np.arange(_REACH, dtype=np.uint64)).sum(-1, dtype=np.uint64)
_RGB = np.array(list(COLORS.values()), np.uint8)


def draw(pieces: Sequence[tuple[str, int, int, tuple[int, int, int]]]) -> np.ndarray:
    """Draws pieces `(name, row, column, (r, g, b))`.

    Args:
      pieces: names as in `NAMES`, the top-left pixel, colour channels 0 or 1.

    Returns:
      image uint8 [35, 35, 3].

    Raises:
      DatasetError: an unknown name, or a piece that leaves the image or covers another.
    """
    grey = np.zeros((SIZE, SIZE), np.uint8)
    color = np.zeros((SIZE, SIZE, 3), np.uint8)
    for name, row, column, rgb in pieces:
        if name not in _CELLS:
            raise DatasetError(f"piece={name!r}: not one of {', '.join(NAMES)}")
        sprite = _SPRITES[NAMES.index(name)]
        height, width = sprite.shape
        if not (0 <= row <= SIZE - height and 0 <= column <= SIZE - width):
            raise DatasetError(f"piece={name!r}: at ({row}, {column}) it leaves the image")
        window = slice(row, row + height), slice(column, column + width)
        if (grey[window].astype(bool) & (sprite > 0)).any():
            raise DatasetError(f"piece={name!r}: at ({row}, {column}) it covers another piece")
        grey[window] |= sprite
        color[window][sprite > 0] = rgb
    return grey[..., None] * color


def sample(seed: int, index: np.ndarray, *, one_color: bool = False) -> dict[str, np.ndarray]:
    """Draws the layout of scenes: shapes, colours and positions uniform, overlaps redrawn.

    Args:
      seed: which endless set of scenes.
      index: integers [N], which scenes of it.
      one_color: the pieces of a scene share one colour.

    Returns:
      `shape` (0..18), `row`, `column` (pixels), `color` (0..5), all int64 [N, 3].
    """
    index = np.asarray(index, np.int64)
    shape = np.empty((index.size, NUM_PIECES), np.int64)
    color, row, column = (np.empty_like(shape) for _ in range(3))
    pending, attempt = np.arange(index.size), 0
    while pending.size:
        here, piece = index[pending, None], np.arange(NUM_PIECES)
        shape[pending] = random.integers(len(NAMES), seed, here, attempt, 0, piece)
        color[pending] = random.integers(
            len(COLORS), seed, here, attempt, 1, piece * (not one_color)
        )
        row[pending], column[pending], placed = _place(
            seed, index[pending], attempt, shape[pending]
        )
        pending, attempt = pending[~placed], attempt + 1
    return {"shape": shape, "row": row, "column": column, "color": color}


def _place(
    seed: int, index: np.ndarray, attempt: int, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top-left corners [N, 3] twice, and which scenes [N] found room for all their pieces."""
    room = SIZE + 1 - _EXTENT[shape]  # [N, 3, 2] positions a piece can take on each axis
    corner = np.zeros((index.size, NUM_PIECES, 2), np.int64)
    taken = np.zeros((index.size, SIZE + _REACH), np.uint64)
    alive = np.ones(index.size, bool)
    for piece in range(NUM_PIECES):
        todo = np.flatnonzero(alive)
        for attempt_here in range(_MAX_TRIES):
            if not todo.size:
                break
            corner[todo, piece] = random.integers(
                room[todo, piece],
                seed, index[todo, None], attempt, 2 + piece, attempt_here, np.arange(2),
            )  # fmt: skip
            row, column = corner[todo, piece, 0], corner[todo, piece, 1].astype(np.uint64)
            cells = _ROW_BITS[shape[todo, piece]] << column[:, None]
            rows = row[:, None] + np.arange(_REACH)
            free = ~(taken[todo[:, None], rows] & cells).any(-1)
            taken[todo[free, None], rows[free]] |= cells[free]
            todo = todo[~free]
        alive[todo] = False
    return corner[..., 0], corner[..., 1], alive


def batch(seed: int, index: np.ndarray, *, one_color: bool = False) -> dict[str, np.ndarray]:
    """Draws scenes with the fields of the published records.

    Args: as `sample`.

    Returns:
      `image` uint8 [N, 35, 35, 3], `segmentation` uint8 [N, 35, 35] (0 background, piece k is
      k + 1), and float32 per entity, background first: `x`, `y` (top-left corner / 35), `shape`
      (1..19 in the order of `NAMES`), `visibility` [N, 4], `color` [N, 4, 3] in {0, 1}.
    """
    layout = sample(seed, index, one_color=one_color)
    count = len(layout["shape"])
    side = SIZE + _REACH
    grey = np.zeros((count, side, side), np.uint8)
    labels = np.zeros((count, side, side), np.uint8)
    scene, window = np.arange(count)[:, None, None], np.arange(_REACH)
    for piece in range(NUM_PIECES):
        sprite = _PADDED[layout["shape"][:, piece]]
        rows = (layout["row"][:, piece, None] + window)[:, :, None]
        columns = (layout["column"][:, piece, None] + window)[:, None, :]
        grey[scene, rows, columns] |= sprite
        labels[scene, rows, columns] |= (sprite > 0) * np.uint8(piece + 1)
    grey, labels = grey[:, :SIZE, :SIZE], np.ascontiguousarray(labels[:, :SIZE, :SIZE])
    color = _with_background(_RGB[layout["color"]])
    image = grey[..., None] * color[np.arange(count)[:, None, None], labels]
    return {
        "image": image,
        "segmentation": labels,
        "x": _with_background(layout["column"] / SIZE).astype(np.float32),
        "y": _with_background(layout["row"] / SIZE).astype(np.float32),
        "shape": _with_background(layout["shape"] + 1).astype(np.float32),
        "visibility": np.ones((count, NUM_PIECES + 1), np.float32),
        "color": color.astype(np.float32),
    }


def _with_background(values: np.ndarray) -> np.ndarray:
    """Prepends entity 0, all zeros: [N, 3, ...] -> [N, 4, ...]."""
    return np.concatenate([np.zeros_like(values[:, :1]), values], axis=1)
