"""CLEVR's studio in JAX: the camera, four lights, the floor that bends up into a wall.

Geometry, powers and colours are those of `base_scene.blend` of clevr-dataset-gen as Cycles sees
it. Lengths are scene units, colours and radiances are linear RGB.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from datasets.scenes.ray_casting import FAR, Solid, Vec

HEIGHT, WIDTH = 240, 320  # the pixels that all window coordinates and visibility rules refer to
MAX_OBJECTS = 10
HALF_WIDTH = 16 / 35  # tangent of half the horizontal field of view: 35 mm lens, 32 mm sensor
CAMERA = (7.4811, -6.5076, 5.3437)


class Light(NamedTuple):
    """A square light that shines towards the origin: Blender's watts, side length, colour."""

    position: tuple[float, float, float]
    watts: float
    side: float
    color: tuple[float, float, float]


LIGHTS = {
    "Lamp_Key": Light((6.4467, -2.9052, 4.2584), 78.5398, 0.5, (1.0, 0.9323, 0.8167)),
    "Lamp_Fill": Light((-4.6711, -4.0136, 3.0112), 23.5619, 0.5, (0.7617, 0.8177, 1.0)),
    "Lamp_Back": Light((-1.1685, 2.6460, 5.8157), 39.2699, 1.0, (1.0, 1.0, 1.0)),
}
# The sun is drawn as one more square, so far away that its rays are parallel; the square has the
# area of the sun's disc.
SUN_DIRECTION = (0.41446, -0.19456, 0.88902)
SUN_IRRADIANCE = 0.45
SUN_RADIUS = 0.09967  # of the disc, in radians
SUN_DISTANCE = 1e4
NUM_LIGHTS = len(LIGHTS) + 1

# The sweep is a curve z = exp(polynomial(s / 18)) of the coordinate s along RISE, pulled along
# DEPTH: fitted to the mesh within 0.04 rad of slope. It ends at z = 23.
RISE = (-0.90320768, 0.42920379)
DEPTH = (-0.42920379, -0.90320768)
SWEEP_CURVE = (7.1705, -7.0239, 0.3246, 7.9185, -5.1896)
SWEEP_START, SWEEP_END, SWEEP_NEAR, SWEEP_DEEP = -9.47, 18.08, -29.9, 26.6
SWEEP_TANGENTS = (6.0, 10.0, 12.5, 14.5, 16.0, 17.5)
SWEEP_STEPS = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene as arrays of fixed shape; objects beyond `count` are never looked at.

    `light_*` hold [NUM_LIGHTS, 3]: centre, the two sides of the square, the direction it shines
    to, and watts per steradian over pi (times colour). `color` is linear RGB [MAX_OBJECTS, 3].
    """

    count: Any
    camera: Any
    right: Any
    up: Any
    forward: Any
    light_position: Any
    light_u: Any
    light_v: Any
    light_normal: Any
    light_power: Any
    x: Any
    y: Any
    radius: Any
    cos: Any
    sin: Any
    kind: Any
    metal: Any
    color: Any


def look_at_origin(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, up and forward of something at `position` that tracks the origin, z up."""
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return right, np.cross(right, forward), forward


def _pack_lights(positions: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    sun = np.asarray(SUN_DIRECTION) / np.linalg.norm(SUN_DIRECTION) * SUN_DISTANCE
    sun_side = math.sqrt(math.pi) * SUN_RADIUS * SUN_DISTANCE
    sun_watts = SUN_IRRADIANCE * math.pi * SUN_DISTANCE**2
    rows = [
        (np.asarray(positions[name], float), light.side, light.watts, light.color)
        for name, light in LIGHTS.items()
    ]
    rows.append((sun, sun_side, sun_watts, (1.0, 1.0, 1.0)))
    frames = [look_at_origin(position) for position, *_ in rows]
    return {
        "light_position": np.stack([position for position, *_ in rows]),
        "light_u": np.stack([f[0] * row[1] for f, row in zip(frames, rows, strict=True)]),
        "light_v": np.stack([f[1] * row[1] for f, row in zip(frames, rows, strict=True)]),
        "light_normal": np.stack([f[2] for f in frames]),
        "light_power": np.stack([watts / math.pi * np.asarray(c) for _, _, watts, c in rows]),
    }


def pack(
    camera: Sequence[float],
    lights: Mapping[str, Sequence[float]],
    objects: Sequence[Mapping[str, float]],
    colors: Sequence[Sequence[float]],
) -> Scene:
    """Arrays of a scene whose objects have x, y, radius, rotation, kind and metal."""
    camera = np.asarray(camera, float)
    right, up, forward = look_at_origin(camera)
    arrays: dict[str, Any] = {"count": np.int32(len(objects))}
    arrays |= {"camera": camera, "right": right, "up": up, "forward": forward}
    arrays |= _pack_lights(lights)

    def padded(values: Sequence[float], fill: float) -> np.ndarray:
        return np.array([*values, *[fill] * (MAX_OBJECTS - len(objects))])

    # CLEVR records the rotation in degrees, but turned its objects by that many radians.
    turn = np.array([o["rotation"] for o in objects], float)
    arrays |= {name: padded([o[name] for o in objects], 0.0) for name in ("x", "y")}
    arrays["radius"] = padded([o["radius"] for o in objects], 1.0)
    arrays |= {"cos": padded(np.cos(turn), 1.0), "sin": padded(np.sin(turn), 0.0)}
    arrays["color"] = np.zeros((MAX_OBJECTS, 3))
    arrays["color"][: len(objects)] = np.reshape(colors, (-1, 3))
    arrays = {k: np.asarray(v, v.dtype if k == "count" else np.float32) for k, v in arrays.items()}
    arrays["kind"] = padded([o["kind"] for o in objects], 0).astype(np.int32)
    arrays["metal"] = padded([o["metal"] for o in objects], 0).astype(np.float32)
    return Scene(**arrays)


# ---------------------------------------------------------------- rays
def camera_rays(scene: Scene, column: Any, row: Any) -> tuple[Vec, Vec]:
    """Origin and unit direction of the rays through (column, row) in units of 320x240 pixels."""
    a = (column / WIDTH * 2 - 1) * HALF_WIDTH
    b = (1 - row / HEIGHT * 2) * (HALF_WIDTH * HEIGHT / WIDTH)
    right, up, forward = (Vec.of(v) for v in (scene.right, scene.up, scene.forward))
    direction = (forward + right * a + up * b).unit()
    return Vec.of(scene.camera).map(lambda c: jnp.broadcast_to(c, a.shape)), direction


def to_unit_frame(scene: Scene, index: Any, origin: Vec, direction: Vec) -> tuple[Vec, Vec]:
    """A ray in the frame in which object `index` has half extent 1; distances stay as they are."""
    radius, cos, sin = scene.radius[index], scene.cos[index], scene.sin[index]
    scale = 1.0 / radius
    p = Vec(origin.x - scene.x[index], origin.y - scene.y[index], origin.z - radius)
    cos, sin = cos * scale, sin * scale
    return (
        Vec(cos * p.x + sin * p.y, cos * p.y - sin * p.x, scale * p.z),
        Vec(
            cos * direction.x + sin * direction.y,
            cos * direction.y - sin * direction.x,
            scale * direction.z,
        ),
    )


def trace_objects(
    scene: Scene, solids: tuple[Solid, ...], origin: Vec, direction: Vec, skip: Any = -1
) -> tuple[Any, Any]:
    """Distance to the nearest object and its index (FAR and -1 where there is none).

    `skip` is an object that rays pass through: the convex one they start from.
    """

    def nearer(k: Any, best: tuple[Any, Any]) -> tuple[Any, Any]:
        ray = to_unit_frame(scene, k, origin, direction)
        t = jax.lax.switch(scene.kind[k], [s.enter for s in solids], *ray)
        closer = (t < best[0]) & (skip != k)
        return jnp.where(closer, t, best[0]), jnp.where(closer, k, best[1])

    shape = direction.x.shape
    nothing = jnp.full(shape, FAR, jnp.float32), jnp.full(shape, -1, jnp.int32)
    return jax.lax.fori_loop(0, scene.count, nearer, nothing)


def blocked(
    scene: Scene, solids: tuple[Solid, ...], origin: Vec, direction: Vec, limit: Any, skip: Any
) -> Any:
    """Whether an object stands between the origin and `limit`; `skip` is where rays start."""
    convex = jnp.array([solid.convex for solid in solids])

    def either(k: Any, found: Any) -> Any:
        ray = to_unit_frame(scene, k, origin, direction)
        hit = jax.lax.switch(scene.kind[k], [s.blocks for s in solids], *ray, limit)
        return found | (hit & ((skip != k) | ~convex[scene.kind[k]]))

    return jax.lax.fori_loop(0, scene.count, either, jnp.zeros(direction.x.shape, bool))


def _curve(s: Any) -> tuple[Any, Any]:
    """Height and slope of the sweep at s."""
    a = s * (1 / 18)
    value, slope = jnp.full_like(a, SWEEP_CURVE[0]), jnp.zeros_like(a)
    for coefficient in SWEEP_CURVE[1:]:
        slope = slope * a + value
        value = value * a + coefficient
    height = jnp.exp(value)
    return height, height * slope * (1 / 18)


def _sweep_tangent_lines() -> list[tuple[float, float]]:
    lines = [(0.0, 0.0)]
    for s in SWEEP_TANGENTS:
        a = s / 18
        height = math.exp(np.polyval(SWEEP_CURVE, a))
        slope = height * np.polyval(np.polyder(SWEEP_CURVE), a) / 18
        lines.append((slope, height - slope * s))
    return lines


def trace_sweep(origin: Vec, direction: Vec) -> Any:
    """Distance to the floor or wall, FAR where the ray leaves the studio.

    The curve is convex, so its tangents bound the hit from beyond, and Newton's steps from there
    come back to it without overshooting.
    """
    s0 = RISE[0] * origin.x + RISE[1] * origin.y
    ds = RISE[0] * direction.x + RISE[1] * direction.y
    t = jnp.full(direction.x.shape, FAR, jnp.float32)
    for slope, offset in _sweep_tangent_lines():
        fall = slope * ds - direction.z
        height = origin.z - slope * s0 - offset
        t = jnp.where(fall > 1e-6, jnp.minimum(t, height / jnp.maximum(fall, 1e-6)), t)
    t = jnp.where(ds > 1e-6, jnp.minimum(t, (SWEEP_END - s0) / jnp.maximum(ds, 1e-6)), t)
    for _ in range(SWEEP_STEPS):
        height, slope = _curve(jnp.minimum(s0 + t * ds, SWEEP_END))
        gap = origin.z + t * direction.z - height
        t = jnp.where(t < FAR, t - gap / jnp.minimum(direction.z - slope * ds, -1e-6), t)
    s = s0 + t * ds
    w = DEPTH[0] * (origin.x + t * direction.x) + DEPTH[1] * (origin.y + t * direction.y)
    inside = (s > SWEEP_START) & (s < SWEEP_END + 0.05) & (w > SWEEP_NEAR) & (w < SWEEP_DEEP)
    return jnp.where(inside & (t > 0), t, FAR)


def sweep_normal(point: Vec) -> Vec:
    """Unit normal of the sweep at points on it."""
    _, slope = _curve(jnp.clip(RISE[0] * point.x + RISE[1] * point.y, 0.0, SWEEP_END))
    return Vec(-slope * RISE[0], -slope * RISE[1], jnp.ones_like(slope)).unit()


# ---------------------------------------------------------------- light
class Sample(NamedTuple):
    """One sample of one light as seen from shaded points.

    `direction` is a unit vector to the light; `irradiance` is RGB, cosine and shadow included;
    `density` is that of the sample, 1/sr.
    """

    direction: Vec
    irradiance: Vec
    density: Any


def sample_light(
    scene: Scene,
    solids: tuple[Solid, ...],
    light: Any,
    point: Vec,
    normal: Vec,
    skip: Any,
    uv: tuple[Any, Any],
) -> Sample:
    """Irradiance from the spot (u, v) in [0, 1)^2 of a light; each spot stands for the whole."""
    centre, power = Vec.of(scene.light_position[light]), Vec.of(scene.light_power[light])
    spot = (
        centre
        + Vec.of(scene.light_u[light]) * (uv[0] - 0.5)
        + Vec.of(scene.light_v[light]) * (uv[1] - 0.5)
    )
    offset = spot - point
    squared = offset.dot(offset)
    distance = jnp.sqrt(squared)
    direction = offset * (1.0 / distance)
    facing = jnp.maximum(normal.dot(direction), 0.0)
    leaving = jnp.maximum(-direction.dot(Vec.of(scene.light_normal[light])), 0.0)
    shadow = blocked(scene, solids, point, direction, distance, skip)
    strength = jnp.where(shadow, 0.0, facing * leaving / squared)
    u, v = Vec.of(scene.light_u[light]), Vec.of(scene.light_v[light])
    area = jnp.sqrt(u.dot(u) * v.dot(v))
    return Sample(direction, power * strength, squared / (area * jnp.maximum(leaving, 1e-3)))


def emitted(scene: Scene, origin: Vec, direction: Vec, limit: Any, density: Any) -> Vec:
    """Radiance of the lights that rays meet before `limit`, for rays drawn with `density` (1/sr).

    Lights are sampled as well, so each way of finding one is weighed by the balance heuristic
    (Veach and Guibas 1995).
    """

    def add(light: Any, total: Vec) -> Vec:
        centre, front = Vec.of(scene.light_position[light]), Vec.of(scene.light_normal[light])
        u, v = Vec.of(scene.light_u[light]), Vec.of(scene.light_v[light])
        area = jnp.sqrt(u.dot(u) * v.dot(v))
        speed = jnp.minimum(direction.dot(front), -1e-6)
        t = (centre - origin).dot(front) / speed
        offset = origin + direction * t - centre
        inside = (2 * jnp.abs(offset.dot(u)) < area) & (2 * jnp.abs(offset.dot(v)) < area)
        seen = inside & (t > 0) & (t < limit)
        share = density / (density + t * t / (area * -speed))
        return total + Vec.of(scene.light_power[light]) * jnp.where(seen, share / area, 0.0)

    return jax.lax.fori_loop(0, NUM_LIGHTS, add, Vec.full(direction.x.shape))
