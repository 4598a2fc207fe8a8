"""Wholes made of parts made of strokes: two on a dark ground, with the truth of all three levels.

Four wholes share four parts: each part occurs in two of them, so a part does not tell its whole,
and a whole is told by which parts it has. Every stroke has a colour of its own, so colours tell
strokes apart and nothing else. Parts of a whole lie a stroke's width apart, as wholes may.
"""

import itertools

import numpy as np

from datasets.scenes import random

# Pixels of a stroke's width, by the picture's side.
WIDTHS = {28: 2, 32: 2, 48: 3}

# Parts in blocks of a stroke's width; a stroke is all blocks of one letter.
PARTS = {
    "T": ("aaa", ".b.", ".b."),
    "L": ("a..", "a..", "abb"),
    "U": ("a.b", "a.b", "acb"),
    "I": ("aaa", ".b.", "ccc"),
}
# Two parts one above the other (|) or side by side (-).
WHOLES = ("T|U", "L|I", "T-L", "U-I")
NUM_WHOLES = 2
LABELS = tuple(itertools.combinations(range(len(WHOLES)), NUM_WHOLES))
LABEL_NAMES = tuple(" ".join(WHOLES[kind] for kind in pair) for pair in LABELS)
COLORS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167)],
    np.uint8,
)  # Okabe and Ito (2008)
_GROUND = 24  # brightest level of the ground's noise
_REACH = 7  # blocks of a whole, at most
_GAP = 1  # blocks between two wholes, at least
# What a draw is for, the last but one of its counters.
_PLACE, _LABEL, _SWAP, _COLOR, _NOISE = range(5)


def _stamp(whole: str) -> tuple[np.ndarray, np.ndarray]:
    """Strokes and parts of a whole, each counted from 1, in blocks `[7, 7]`; 0 is the ground."""
    strokes, parts = np.zeros((2, _REACH, _REACH), np.int64)
    count = 0
    for place, name in enumerate((whole[0], whole[2])):
        top, left = (4 * place, 0) if whole[1] == "|" else (0, 4 * place)
        letters = np.array([list(row) for row in PARTS[name]])
        window = slice(top, top + 3), slice(left, left + 3)
        for letter in sorted(set(letters.flat) - {"."}):
            count += 1
            strokes[window][letters == letter] = count
        parts[window][letters != "."] = place + 1
    return strokes, parts


_STROKES, _PARTS = (np.stack(maps) for maps in zip(*map(_stamp, WHOLES), strict=True))
_EXTENT = np.array([(7, 3) if whole[1] == "|" else (3, 7) for whole in WHOLES])  # blocks
_MAX_STROKES = int(_STROKES.max())


def batch(seed: int, index: np.ndarray, *, size: int = 32) -> dict[str, np.ndarray]:
    """Draws scenes.

    Args:
      seed: which endless set of scenes.
      index: integers [N], which scenes of it.
      size: the picture's side in pixels, one of `WIDTHS`.

    Returns:
      `image` uint8 [N, size, size, 3]; `segmentation`, `part_segmentation` and
      `stroke_segmentation` uint8 [N, size, size], 0 the ground and wholes, parts, strokes counted
      from 1; `label` uint8 [N], which pair of wholes, in the order of `LABELS`; and by entity
      [N, 3], the ground first, `whole` uint8 (1 to 4 in the order of `WHOLES`) and `visibility`
      float32.
    """
    index = np.asarray(index, np.int64)
    count, width = len(index), WIDTHS[size]
    label = random.integers(len(LABELS), seed, index, 0, _LABEL, 0)
    kinds = np.array(LABELS)[label]  # [N, 2]
    swap = random.integers(2, seed, index, 0, _SWAP, 0) == 1
    kinds[swap] = kinds[swap, ::-1]
    corners = _place(seed, index, kinds, size, width)

    def enlarged(maps: np.ndarray) -> np.ndarray:
        return maps.repeat(width, axis=-2).repeat(width, axis=-1)

    reach = np.arange(_REACH * width)
    maps = np.zeros((3, count, size + reach.size, size + reach.size), np.int64)
    scene = np.arange(count)[:, None, None]
    for whole in range(NUM_WHOLES):
        rows = (corners[:, whole, 0, None] + reach)[:, :, None]
        columns = (corners[:, whole, 1, None] + reach)[:, None, :]
        strokes, parts = enlarged(_STROKES[kinds[:, whole]]), enlarged(_PARTS[kinds[:, whole]])
        ink = strokes > 0
        maps[0][scene, rows, columns] += (whole + 1) * ink
        maps[1][scene, rows, columns] += (2 * whole + parts) * ink
        maps[2][scene, rows, columns] += (whole * _MAX_STROKES + strokes) * ink
    wholes, parts, strokes = maps[..., :size, :size].astype(np.uint8)
    return {
        "image": _paint(seed, index, strokes),
        "segmentation": wholes,
        "part_segmentation": parts,
        "stroke_segmentation": strokes,
        "label": label.astype(np.uint8),
        "whole": np.pad(kinds + 1, ((0, 0), (1, 0))).astype(np.uint8),
        "visibility": np.ones((count, 1 + NUM_WHOLES), np.float32),
    }


def _place(seed: int, index: np.ndarray, kinds: np.ndarray, size: int, width: int) -> np.ndarray:
    """Top left corners `[N, 2, 2]` in pixels, uniform among those that keep the wholes apart."""
    extent = _EXTENT[kinds] * width  # [N, 2, 2]
    corners = np.zeros_like(extent)
    pending, attempt = np.arange(len(index)), 0
    while pending.size:
        room = (size + 1 - extent[pending]).reshape(len(pending), -1)
        drawn = random.integers(room, seed, index[pending, None], attempt, _PLACE, np.arange(4))
        corners[pending] = drawn.reshape(-1, NUM_WHOLES, 2)
        low, high = corners[pending], corners[pending] + extent[pending] + _GAP * width
        apart = (low[:, 0] >= high[:, 1]) | (low[:, 1] >= high[:, 0])
        pending, attempt = pending[~apart.any(axis=-1)], attempt + 1
    return corners


def _paint(seed: int, index: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Pictures uint8 `[N, H, W, 3]` of stroke maps `[N, H, W]`."""
    numbers = np.arange(1 + NUM_WHOLES * _MAX_STROKES)
    colors = COLORS[random.integers(len(COLORS), seed, index[:, None], 0, _COLOR, numbers)]
    pixels = np.arange(strokes[0].size)
    noise = random.integers(_GROUND + 1, seed, index[:, None], 0, _NOISE, pixels)
    ground = noise.reshape(*strokes.shape, 1).astype(np.uint8)
    inked = colors[np.arange(len(index))[:, None, None], strokes]
    return np.where(strokes[..., None] > 0, inked, ground)
