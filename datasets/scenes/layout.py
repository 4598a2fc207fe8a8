"""CLEVR's scene law: where objects stand, how camera and lights are shaken (NumPy).

As published in clevr-dataset-gen (`render_images.py`): 3 to 10 objects, the count fixed once per
scene; each object tries 50 places in [-3, 3]^2 and needs a gap of 0.25 to every other and 0.4
along the camera's floor directions; one that finds none restarts the scene.
"""

from __future__ import annotations

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


def rig(rng: np.random.Generator) -> dict[str, Any]:
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
    directions = floor_directions(camera)
    names, radii = list(sizes), np.array(list(sizes.values()))
    spots, taken = np.zeros((0, 2)), np.zeros(0)
    objects = []
    for _ in range(count):
        size = int(rng.integers(len(names)))
        tries = rng.uniform(-REACH, REACH, (MAX_TRIES, 2))
        offset = tries[:, None] - spots
        apart = np.hypot(offset[..., 0], offset[..., 1]) - radii[size] - taken >= MIN_GAP
        clear = (np.abs(offset @ directions.T) >= MARGIN).all(-1)
        free = np.flatnonzero((apart & clear).all(1))
        if not free.size:
            return None
        x, y = tries[free[0]]
        spots, taken = np.vstack([spots, [x, y]]), np.append(taken, radii[size])
        objects.append({"x": x, "y": y, "r": radii[size], "size": names[size]})
    return [{**o, "x": float(o["x"]), "y": float(o["y"]), "r": float(o["r"])} for o in objects]


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
