"""A stand-in for 3D Shapes: one solid in the middle of a coloured room, 64x64.

The factors and their values are the published ones, each drawn on its own; the pictures are not.
"""

import colorsys
from collections.abc import Callable

import numpy as np

from datasets.scenes import random

SIZE = 64  # pixels, height and width
NAMES = ("cube", "cylinder", "sphere", "capsule")  # codes of `shape` 0 to 3 in the published file
NUM_HUES = 10
SCALES = np.linspace(0.75, 1.25, 8)
ORIENTATIONS = np.linspace(-30.0, 30.0, 15)  # degrees, of the camera about the room's middle
FLOOR, WALL, OBJECT = range(3)  # entities, the labels of the segmentation

_ROOM = 3.0  # from the middle to a wall
_CAMERA = (5.2, 2.6)  # distance from the middle and height
_TARGET = 0.85  # height that the camera looks at
_FIELD = 0.34  # half the picture's width at distance 1
_SUN = np.array([0.45, -0.35, 0.82])
_AMBIENT = 0.45
_STEPS = 32  # of sphere tracing
_TOUCH = 4e-3  # closer than this is on the surface

_COLORS = np.array([colorsys.hsv_to_rgb(i / NUM_HUES, 1.0, 1.0) for i in range(NUM_HUES)])

Field = Callable[[np.ndarray], np.ndarray]  # points [..., 3] to distances [...]


def batch(seed: int, index: np.ndarray) -> dict[str, np.ndarray]:
    """Draws scenes; see `render` for what it returns."""
    index = np.asarray(index, np.int64)

    def draw(number: int, *counters: np.ndarray) -> np.ndarray:
        return random.integers(number, seed, *counters)

    return render(
        hue=draw(NUM_HUES, index[:, None], np.arange(3)),
        scale=draw(len(SCALES), index, 3),
        shape=draw(len(NAMES), index, 4),
        orientation=draw(len(ORIENTATIONS), index, 5),
    )


def render(
    *, hue: np.ndarray, scale: np.ndarray, shape: np.ndarray, orientation: np.ndarray
) -> dict[str, np.ndarray]:
    """Pictures of factors, given as the places of their values.

    Args:
        hue: `[N, 3]`, of floor, wall and object, 0 to 9.
        scale: `[N]`, 0 to 7.
        shape: `[N]`, 0 to 3.
        orientation: `[N]`, 0 to 14.

    Returns:
        image `[N, 64, 64, 3]` and segmentation `[N, 64, 64]`, uint8, with what `attributes` gives.
    """
    pictures = [_scene(*factors) for factors in zip(hue, scale, shape, orientation, strict=True)]
    image, segmentation = (np.stack(part) for part in zip(*pictures, strict=True))
    return {
        "image": image,
        "segmentation": segmentation,
        **attributes(hue / NUM_HUES, SCALES[scale], shape, ORIENTATIONS[orientation]),
    }


def attributes(
    hue: np.ndarray, scale: np.ndarray, shape: np.ndarray, orientation: np.ndarray
) -> dict[str, np.ndarray]:
    """Factors `[N, ...]` by entity, `[N, 3]`: floor, wall, object.

    Args:
        hue: `[N, 3]` in [0, 1).
        scale: of the object, in [0.75, 1.25].
        shape: of the object, 0 to 3; 1 to 4 when stored, 0 are floor and wall.
        orientation: in degrees, the same for all three.
    """
    room = np.zeros((len(hue), 2))
    return {
        "hue": hue.astype(np.float32),
        "scale": np.column_stack([room, scale]).astype(np.float32),
        "shape": np.column_stack([room, np.asarray(shape) + 1]).astype(np.uint8),
        "orientation": np.repeat(np.float32(orientation)[:, None], 3, axis=1),
        "visibility": np.ones((len(hue), 3), np.float32),
    }


def _scene(
    hue: np.ndarray, scale: int, shape: int, orientation: int
) -> tuple[np.ndarray, np.ndarray]:
    """One picture uint8 `[64, 64, 3]` and its labels `[64, 64]`."""
    origin, rays = _camera(np.deg2rad(ORIENTATIONS[orientation]))
    size = 0.62 * SCALES[scale]
    field = _solid(NAMES[shape], size)

    with np.errstate(divide="ignore"):
        to_floor = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
        sides = (np.sign(rays[..., :2]) * _ROOM - origin[:2]) / rays[..., :2]
    to_wall = sides.min(axis=-1)
    distance = np.minimum(to_floor, to_wall)
    labels = np.where(to_floor < to_wall, FLOOR, WALL).astype(np.uint8)
    to_solid, hit = _trace(field, origin, rays, size)
    labels[hit] = OBJECT
    distance = np.where(hit, to_solid, distance)

    points = origin + distance[..., None] * rays
    normals = np.zeros_like(points)
    normals[labels == FLOOR] = (0, 0, 1)
    axis = sides.argmin(axis=-1)
    for i in range(2):
        wall = (labels == WALL) & (axis == i)
        normals[wall, i] = -np.sign(rays[wall, i])
    normals[hit] = _gradient(field, points[hit])
    facing = np.clip(normals @ (_SUN / np.linalg.norm(_SUN)), 0, 1)
    # Half of the sun's light stays where the solid is near: a soft contact shadow.
    near = np.clip(field(points) / size, 0, 1)
    facing = np.where(labels == FLOOR, facing * (0.5 + 0.5 * near), facing)
    colors = _COLORS[hue][labels] * (_AMBIENT + (1 - _AMBIENT) * facing)[..., None]
    return np.rint(255 * colors).astype(np.uint8), labels


def _camera(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera stands and its rays `[64, 64, 3]`, of unit length, row 0 at the top."""
    distance, height = _CAMERA
    # At angle 0 it looks into a corner.
    around = angle + np.pi / 4
    origin = np.array([-distance * np.cos(around), -distance * np.sin(around), height])
    forward = np.array([0, 0, _TARGET]) - origin
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    pixel = _FIELD * ((np.arange(SIZE) + 0.5) * 2 / SIZE - 1)
    rays = forward + pixel[None, :, None] * right - pixel[:, None, None] * up
    return origin, rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _solid(name: str, size: float) -> Field:
    """The signed distance to a solid of radius `size` that stands on the floor."""
    centre = np.array([0, 0, size])

    def box(excess: np.ndarray) -> np.ndarray:
        """From how far a point exceeds a box along each of its axes."""
        return np.linalg.norm(np.maximum(excess, 0), axis=-1) + np.minimum(excess.max(-1), 0)

    def cube(p: np.ndarray) -> np.ndarray:
        return box(np.abs(p - 0.8 * centre) - 0.8 * size)

    def cylinder(p: np.ndarray) -> np.ndarray:
        radius = np.linalg.norm(p[..., :2], axis=-1)
        return box(np.stack([radius - 0.8 * size, np.abs(p[..., 2] - size) - size], axis=-1))

    def sphere(p: np.ndarray) -> np.ndarray:
        return np.linalg.norm(p - centre, axis=-1) - size

    def capsule(p: np.ndarray) -> np.ndarray:
        nearest = np.clip(p[..., 2], 0.65 * size, 1.75 * size)
        return np.hypot(np.linalg.norm(p[..., :2], axis=-1), p[..., 2] - nearest) - 0.65 * size

    return {"cube": cube, "cylinder": cylinder, "sphere": sphere, "capsule": capsule}[name]


def _trace(
    field: Field, origin: np.ndarray, rays: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sphere tracing (Hart 1996): distances along rays, and which reach a solid of `_solid`."""
    middle, radius = np.array([0, 0, 1.2 * size]), 1.7 * size  # of a ball that the solid is in
    along = rays @ (middle - origin)
    near = np.linalg.norm(origin + along[..., None] * rays - middle, axis=-1) < radius
    t, some = along[near] - radius, rays[near]
    for _ in range(_STEPS):
        t += field(origin + t[:, None] * some)
    distance, hit = np.zeros(near.shape), np.zeros(near.shape, bool)
    distance[near] = t
    hit[near] = field(origin + t[:, None] * some) < _TOUCH
    return distance, hit


def _gradient(field: Field, points: np.ndarray) -> np.ndarray:
    """The normals `[..., 3]` of surface points, by central differences."""
    small = 1e-4 * np.eye(3)
    slopes = [field(points + step) - field(points - step) for step in small]
    normals = np.stack(slopes, axis=-1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)
