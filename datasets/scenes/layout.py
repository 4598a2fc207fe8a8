"""CLEVR's scene distribution: where objects stand, how camera and lights are shaken (NumPy).

As published in clevr-dataset-gen (`render_images.py`): 3 to 10 objects, the count fixed once per
scene; each object tries 50 places in [-3, 3]^2 and needs a gap of 0.25 to every other and 0.4
along the camera's floor directions; one that finds none restarts the scene.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.scenes import studio

MIN_OBJECTS, MAX_OBJECTS = 3, studio.MAX_OBJECTS
REACH = 3.0  # objects' centres lie in [-REACH, REACH]^2
MIN_GAP, MARGIN = 0.25, 0.4
MAX_TRIES = 50
CAMERA_JITTER, LIGHT_JITTER = 0.5, 1.0
MIN_VISIBLE = 200  # pixels of each object in the 240x320 picture


def floor_directions(camera: np.ndarray) -> np.ndarray:
    """Unit vectors [2, 2] on the floor: the camera's right and its depth."""
    right, _, forward = studio.look_at_origin(np.asarray(camera, float))
    return np.stack([right[:2], forward[:2] / np.linalg.norm(forward[:2])])


def camera_and_lights(rng: np.random.Generator) -> dict[str, Any]:
    """A shaken camera and lights: `camera`, `camera_m` (4x4 world matrix) and `lights`."""
    camera = np.asarray(studio.CAMERA) + rng.uniform(-CAMERA_JITTER, CAMERA_JITTER, 3)
    lights = {
        name: list(np.asarray(light.position) + rng.uniform(-LIGHT_JITTER, LIGHT_JITTER, 3))
        for name, light in studio.LIGHTS.items()
    }
    right, up, forward = studio.look_at_origin(camera)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, up, -forward, camera], axis=1)
    return {"camera": camera.tolist(), "camera_m": matrix.tolist(), "lights": lights}


def place(
    rng: np.random.Generator, count: int, sizes: Mapping[str, float], camera: np.ndarray
) -> list[dict[str, Any]] | None:
    """`count` objects with x, y, r and size, or None where one found no room."""
    (right_x, right_y), (depth_x, depth_y) = floor_directions(camera).tolist()
    names = list(sizes)
    objects: list[dict[str, Any]] = []
    taken: list[tuple[float, ...]] = []
    for _ in range(count):
        size = names[rng.integers(len(names))]
        radius = float(sizes[size])
        # One after the other: most objects find room soon, and whole arrays cost more than that.
        for x, y in rng.uniform(-REACH, REACH, (MAX_TRIES, 2)).tolist():
            right, depth = x * right_x + y * right_y, x * depth_x + y * depth_y
            if _has_room(x, y, right, depth, radius, taken):
                taken.append((x, y, right, depth, radius))
                objects.append({"x": x, "y": y, "r": radius, "size": size})
                break
        else:
            return None
    return objects


def _has_room(
    x: float, y: float, right: float, depth: float, radius: float, taken: list[tuple[float, ...]]
) -> bool:
    for other_x, other_y, other_right, other_depth, other_radius in taken:
        if (
            -MARGIN < right - other_right < MARGIN
            or -MARGIN < depth - other_depth < MARGIN
            or math.hypot(x - other_x, y - other_y) - radius - other_radius < MIN_GAP
        ):
            return False
    return True


def with_coordinates(camera: np.ndarray, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Objects with `3d_coords` and `pixel_coords`, as CLEVR records them."""
    coordinates = [[o["x"], o["y"], o["r"]] for o in objects]
    pixels = project(camera, np.array(coordinates)).tolist()
    return [
        item | {"3d_coords": place, "pixel_coords": seen}
        for item, place, seen in zip(objects, coordinates, pixels, strict=True)
    ]


def project(camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`pixel_coords` [N, 3] of world points [N, 3]: column, row (rounded), depth."""
    right, up, forward = studio.look_at_origin(np.asarray(camera, float))
    offset = np.asarray(points, float) - camera
    depth = offset @ forward
    u = 0.5 + offset @ right / depth / (2 * studio.HALF_WIDTH)
    aspect = studio.WIDTH / studio.HEIGHT
    v = 0.5 + offset @ up / depth / (2 * studio.HALF_WIDTH) * aspect
    column = np.round(u * studio.WIDTH)
    row = np.round(studio.HEIGHT - v * studio.HEIGHT)
    return np.stack([column, row, depth], axis=-1)
