"""Multi-dSprites drawn as in the published sets: dSprites' sprites, hard-edged, on a plain ground.

Geometry calibrated on frames of dSprites itself (Matthey et al. 2017): squares are exact,
ellipses and hearts off by at most four pixels. Sprites take dSprites' own grid of positions,
scales and orientations, as those of published Multi-dSprites records do. Counts are uniform over
the documented range; colours follow what published pictures show.
"""

import dataclasses

import numpy as np

from datasets.errors import DatasetError
from datasets.scenes import random

SIZE = 64  # pixels, height and width
SHAPES = ("square", "ellipse", "heart")  # dSprites codes 1, 2, 3
SCALES = np.linspace(0.5, 1, 6)
ORIENTATIONS = np.linspace(0, 2 * np.pi, 40)  # radians; the first and the last are the same
POSITIONS = np.linspace(0, 1, 32)

_SQUARE_HALF_SIDE = 9.6  # pixels at scale 1, as all lengths below
_ELLIPSE_AXES = (12.8, 7.2)
_HEART_CENTRE = 2.0  # the heart's polar centre lies so far above the sprite's centre
# Radius every 10 degrees from straight up to straight down, the same left and right.
_HEART_RADII = np.array(
    [3.95, 5.22, 7.09, 8.45, 9.41, 9.76, 10.0, 10.14, 9.68, 9.1, 8.47, 8.06, 7.75, 7.32, 7.42, 7.69,
     8.01, 9.07, 10.99]
)  # fmt: skip
_HEART_STEP = np.pi / (len(_HEART_RADII) - 1)
_WINDOW = 29  # pixels; the square's diagonal at scale 1 is 27.2


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the three published sets.

    Attributes:
      min_sprites, max_sprites: in a scene.
      num_entities: background and padding included.
      channels: of the image.
      sprite, ground: how a colour is made of uniform numbers [N, ..., 3] in [0, 1).
    """

    min_sprites: int
    max_sprites: int
    num_entities: int
    channels: int
    sprite: str
    ground: str


KINDS = {
    "binarized": Kind(2, 3, 4, 1, sprite="white", ground="black"),
    "colored_on_grayscale": Kind(2, 5, 6, 3, sprite="vivid", ground="grey"),
    "colored_on_colored": Kind(1, 4, 5, 3, sprite="rgb", ground="rgb"),
}


def sprite_mask(shape: int, scale: float, orientation: float, x: float, y: float) -> np.ndarray:
    """The pixels one sprite covers.

    Args:
      shape: 1 square, 2 ellipse, 3 heart.
      scale: size, dSprites has .5 to 1.
      orientation: radians, counter-clockwise on the screen.
      x, y: position, each in [0, 1] from left to right and from top to bottom.

    Returns:
      bool [64, 64].

    Raises:
      DatasetError: another shape, or a position outside [0, 1].
    """
    if shape not in (1, 2, 3):
        raise DatasetError(f"shape={shape!r}: expected 1 (square), 2 (ellipse) or 3 (heart)")
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise DatasetError(f"(x, y)=({x}, {y}): expected positions in [0, 1]")
    pixel = np.arange(SIZE) + 0.5
    dx, dy = pixel[None, :] - _centre(x), pixel[:, None] - _centre(y)
    u, v = sprite_frame(dx, dy, np.cos(orientation), np.sin(orientation), scale)
    return INSIDE[shape - 1](u, v)


def _centre(position: np.ndarray | float) -> np.ndarray | float:
    """Pixels from the image's edge to the sprite's centre."""
    return 16 + 32 * position


def sprite_frame(
    dx: np.ndarray, dy: np.ndarray, cos: np.ndarray, sin: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets on the screen (right, down) as offsets (right, up) in the unrotated unit sprite."""
    return (dx * cos - dy * sin) / scale, -(dx * sin + dy * cos) / scale


def _in_square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v)) <= _SQUARE_HALF_SIDE


def _in_ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (u / _ELLIPSE_AXES[0]) ** 2 + (v / _ELLIPSE_AXES[1]) ** 2 <= 1


def _in_heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = abs(u), v - _HEART_CENTRE
    angle = np.arctan2(u, v) / _HEART_STEP  # 0 is straight up
    low = np.minimum(angle.astype(np.int64), len(_HEART_RADII) - 2)
    part = angle - low
    radius = _HEART_RADII[low] * (1 - part) + _HEART_RADII[low + 1] * part
    return u * u + v * v <= radius * radius


INSIDE = (_in_square, _in_ellipse, _in_heart)


def batch(seed: int, index: np.ndarray, *, kind: str) -> dict[str, np.ndarray]:
    """Draws scenes with the fields of the published records.

    Args:
      seed: which endless set of scenes.
      index: integers [N], which scenes of it.
      kind: a key of `KINDS`.

    Returns:
      `image` uint8 [N, 64, 64, C], `segmentation` uint8 [N, 64, 64] (0 background, later sprites
      cover earlier ones, every sprite shows), and float32 per entity, background first and
      padding last: `x`, `y`, `shape`, `visibility`, `orientation`, `scale` [N, E], `color`
      [N, E, C] in [0, 1].
    """
    spec, index = KINDS[kind], np.asarray(index, np.int64)
    span = spec.max_sprites - spec.min_sprites + 1
    count = spec.min_sprites + random.integers(span, seed, index, 0)
    labels = np.zeros((index.size, SIZE, SIZE), np.uint8)
    sprites = {name: np.empty((index.size, spec.max_sprites)) for name in _GRIDS}
    pending, attempt = np.arange(index.size), 1
    while pending.size:
        drawn = _sample_sprites(seed, index[pending], attempt, spec.max_sprites)
        drawn_labels = _composite(drawn, count[pending])
        for name, values in drawn.items():
            sprites[name][pending] = values
        labels[pending] = drawn_labels
        hidden = _visible_sprites(drawn_labels) < count[pending]
        pending, attempt = pending[hidden], attempt + 1
    present = np.arange(spec.num_entities) <= count[:, None]
    color = _colors(seed, index, spec) * present[..., None]
    levels = np.rint(255 * color).astype(np.uint8)
    fields = {name: _with_background(values) * present for name, values in sprites.items()}
    return {
        "image": levels[np.arange(index.size)[:, None, None], labels],
        "segmentation": labels,
        **{name: values.astype(np.float32) for name, values in fields.items()},
        "visibility": present.astype(np.float32),
        "color": color.astype(np.float32),
    }


# What a sprite's values are drawn from, uniformly.
_GRIDS = {
    "x": POSITIONS,
    "y": POSITIONS,
    "shape": np.arange(1.0, 1 + len(SHAPES)),
    "orientation": ORIENTATIONS,
    "scale": SCALES,
}


def _sample_sprites(
    seed: int, index: np.ndarray, attempt: int, num_sprites: int
) -> dict[str, np.ndarray]:
    """Values of dSprites' grids, [N, num_sprites] each."""
    sprite = np.arange(num_sprites)
    return {
        name: grid[random.integers(len(grid), seed, index[:, None], attempt, number, sprite)]
        for number, (name, grid) in enumerate(_GRIDS.items())
    }


def _composite(sprites: dict[str, np.ndarray], count: np.ndarray) -> np.ndarray:
    """Label maps [N, 64, 64] of the first `count` sprites of each scene."""
    labels = np.zeros((count.size, SIZE, SIZE), np.uint8)
    offset = np.arange(_WINDOW)
    for number in range(sprites["x"].shape[1]):
        for code, inside in enumerate(INSIDE, 1):
            scene = np.flatnonzero((number < count) & (sprites["shape"][:, number] == code))
            value = {name: values[scene, number, None, None] for name, values in sprites.items()}
            x, y = _centre(value["x"]), _centre(value["y"])
            columns = np.floor(x).astype(np.int64) - _WINDOW // 2 + offset
            rows = np.floor(y).astype(np.int64) - _WINDOW // 2 + offset[:, None]
            cos, sin = np.cos(value["orientation"]), np.sin(value["orientation"])
            covered = inside(
                *sprite_frame(columns + 0.5 - x, rows + 0.5 - y, cos, sin, value["scale"])
            )
            hit = np.nonzero(covered)
            labels[scene[hit[0]], rows[hit[0], hit[1], 0], columns[hit[0], 0, hit[2]]] = number + 1
    return labels


def _visible_sprites(labels: np.ndarray) -> np.ndarray:
    """How many labels other than 0 each map shows, [N]."""
    shown = np.zeros((len(labels), 256), bool)
    shown[np.arange(len(labels))[:, None, None], labels] = True
    return shown[:, 1:].sum(1)


def _colors(seed: int, index: np.ndarray, spec: Kind) -> np.ndarray:
    """Colour of every entity, [N, E, C] in [0, 1]."""
    channel = np.arange(3)
    numbers = random.uniform(
        seed, index[:, None, None], 0, 1, np.arange(spec.num_entities)[:, None], channel
    )
    color = _PALETTES[spec.sprite](numbers)
    color[:, :1] = _PALETTES[spec.ground](numbers[:, :1])
    return color[..., : spec.channels]


def _vivid(numbers: np.ndarray) -> np.ndarray:
    """RGB of hue U[0, 1), saturation and value U[.5, 1): what published sprites show."""
    hue, saturation, value = numbers[..., 0], 0.5 + numbers[..., 1] / 2, 0.5 + numbers[..., 2] / 2
    # Each channel's ramp around the colour circle: 0 at full colour, 1 at none.
    phase = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    ramp = np.clip(np.minimum(phase, 4 - phase), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


_PALETTES = {
    "white": np.ones_like,
    "black": np.zeros_like,
    "grey": lambda numbers: np.repeat(numbers[..., :1], 3, axis=-1),
    "rgb": np.copy,
    "vivid": _vivid,
}


def _with_background(values: np.ndarray) -> np.ndarray:
    """Prepends entity 0, zeros: [N, K] -> [N, 1 + K]."""
    return np.concatenate([np.zeros_like(values[:, :1]), values], axis=1)
