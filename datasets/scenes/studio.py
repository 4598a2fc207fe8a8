"""CLEVR's studio in JAX: the camera, four lights, the floor that bends up into a wall.

Geometry, powers and colours are those of `base_scene.blend` of clevr-dataset-gen as Cycles sees
it. Lengths are scene units, colours and radiances are linear RGB.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from datasets.scenes.ray_casting import FAR, Solid, Vec

HEIGHT, WIDTH = 240, 320  # the pixels that all window coordinates and visibility rules refer to
MAX_OBJECTS = 10
HALF_WIDTH = 16 / 35  # tangent of half the horizontal field of view: 35 mm lens, 32 mm sensor
CAMERA = (7.4811, -6.5076, 5.3437)
TILE = 32  # rays a side that are tested against an object at a time


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
    # The cross products forward x z and right x forward; `np.cross` would take most of the time.
    x, y, z = forward
    a, b = y / math.hypot(x, y), -x / math.hypot(x, y)
    return np.array([a, b, 0.0]), np.array([b * z, -a * z, a * y - b * x]), forward


# In the order of a scene's `light_*`; what is the same in every scene is computed once.
_SUN = np.asarray(SUN_DIRECTION) / np.linalg.norm(SUN_DIRECTION) * SUN_DISTANCE
_SIDES = np.array(
    [*(light.side for light in LIGHTS.values()), math.sqrt(math.pi) * SUN_RADIUS * SUN_DISTANCE]
)
_POWERS = np.array(
    [
        *(light.watts / math.pi * np.asarray(light.color) for light in LIGHTS.values()),
        np.full(3, SUN_IRRADIANCE * SUN_DISTANCE**2),
    ]
)


def _pack_lights(positions: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    places = [*(np.asarray(positions[name], float) for name in LIGHTS), _SUN]
    right, up, normal = (np.array(v) for v in zip(*map(look_at_origin, places), strict=True))
    return {
        "light_position": np.array(places),
        "light_u": right * _SIDES[:, None],
        "light_v": up * _SIDES[:, None],
        "light_normal": normal,
        "light_power": _POWERS,
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


def _for_kind(kind: Any, solids: tuple[Solid, ...], work: Callable[[Solid], Any]) -> Any:
    """`work` for the solid of a kind; what is done in there needs no arrays in between."""
    return jax.lax.switch(kind, [functools.partial(work, solid) for solid in solids])


def ball_radii(scene: Scene, solids: tuple[Solid, ...]) -> Any:
    """Radius of the ball that holds each object, float32 [MAX_OBJECTS]."""
    return jnp.array([solid.ball for solid in solids], jnp.float32)[scene.kind] * scene.radius


def screen_box(scene: Scene, k: Any, reach: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """First and last column, first and last row that object k's ball may touch, in pixels."""
    centre = Vec(scene.x[k], scene.y[k], scene.radius[k])
    offset = centre - Vec.of(scene.camera)
    depth = offset.dot(Vec.of(scene.forward))
    beyond = depth**2 - reach**2

    def tangents(axis: Any) -> tuple[Any, Any]:
        aside = offset.dot(Vec.of(axis))
        spread = reach * jnp.sqrt(jnp.maximum(aside**2 + beyond, 0.0))
        low, high = ((aside * depth + s * spread) / (beyond * HALF_WIDTH) for s in (-1, 1))
        around = depth < reach * 1.01  # the camera is beside the ball, or in it
        return jnp.where(around, -FAR, low), jnp.where(around, FAR, high)

    (left, right), (bottom, top) = tangents(scene.right), tangents(scene.up)
    centre_column, centre_row, scale = WIDTH / 2, HEIGHT / 2, WIDTH / 2
    return (
        (centre_column + scale * left, centre_column + scale * right),
        (centre_row - scale * top, centre_row - scale * bottom),
    )


def trace_view(scene: Scene, solids: tuple[Solid, ...], columns: Any, rows: Any) -> tuple[Any, Any]:
    """Distance and index of the object nearest to the camera (FAR and -1 where there is none).

    Args:
      scene: whose objects are looked for.
      solids: its kinds.
      columns: of a grid of rays, ascending, in 240x320 pixels, [C].
      rows: likewise, [R].

    Returns:
      float32 and int32, flat [R * C].
    """
    shape = len(rows), len(columns)
    tile = min(TILE, shape[0]), min(TILE, shape[1])
    reach = ball_radii(scene, solids)

    def add_object(k: Any, best: tuple[Any, Any]) -> tuple[Any, Any]:
        # Only tiles that its ball may touch are looked at.
        across, down = screen_box(scene, k, reach[k])
        left, right = jnp.searchsorted(columns, jnp.stack(across))
        top, bottom = jnp.searchsorted(rows, jnp.stack(down))
        tiles_across = -(-(right - left) // tile[1])
        tiles_down = -(-(bottom - top) // tile[0])

        def add_tile(i: Any, best: tuple[Any, Any]) -> tuple[Any, Any]:
            corner = top + i // tiles_across * tile[0], left + i % tiles_across * tile[1]
            row = jax.lax.dynamic_slice(rows, corner[:1], tile[:1])
            column = jax.lax.dynamic_slice(columns, corner[1:], tile[1:])
            distance, index = (jax.lax.dynamic_slice(a, corner, tile) for a in best)

            def nearer(solid: Solid) -> tuple[Any, Any]:
                rays = camera_rays(scene, *jnp.meshgrid(column, row))
                t = solid.enter(*to_unit_frame(scene, k, *rays))
                return jnp.minimum(t, distance), jnp.where(t < distance, k, index)

            new = _for_kind(scene.kind[k], solids, nearer)
            return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice(a, b, corner), best, new)

        return jax.lax.fori_loop(0, tiles_across * tiles_down, add_tile, best)

    nothing = jnp.full(shape, FAR, jnp.float32), jnp.full(shape, -1, jnp.int32)
    distance, index = jax.lax.fori_loop(0, scene.count, add_object, nothing)
    return distance.ravel(), index.ravel()


def intersect_hulls(
    scene: Scene, solids: tuple[Solid, ...], origin: Vec, direction: Vec, skip: Any
) -> tuple[Any, Any]:
    """Distance to the nearest object's hull and its index (FAR and -1 where there is none).

    `skip` is an object that rays pass through: the convex one they start from.
    """

    def add_object(k: Any, best: tuple[Any, Any]) -> tuple[Any, Any]:
        def nearer(solid: Solid) -> tuple[Any, Any]:
            t = solid.intersect_hull(*to_unit_frame(scene, k, origin, direction))
            closer = (t < best[0]) & (skip != k)
            return jnp.where(closer, t, best[0]), jnp.where(closer, k, best[1])

        return _for_kind(scene.kind[k], solids, nearer)

    shape = direction.x.shape
    nothing = jnp.full(shape, FAR, jnp.float32), jnp.full(shape, -1, jnp.int32)
    return jax.lax.fori_loop(0, scene.count, add_object, nothing)


def _between(scene: Scene, solids: tuple[Solid, ...], point: Vec, light: Any) -> tuple[Any, Any]:
    """Which objects may stand between some points and a light, int32 [MAX_OBJECTS]; how many.

    The rays run in a cone about the line from the middle of a ball of the points to the light.
    """
    low, high = point.map(jnp.min), point.map(jnp.max)
    middle, diagonal = (low + high) * 0.5, high - low
    reach = 0.5 * jnp.sqrt(diagonal.dot(diagonal))
    u, v = Vec.of(scene.light_u[light]), Vec.of(scene.light_v[light])
    light_reach = 0.5 * jnp.sqrt(u.dot(u) + v.dot(v))
    offset = Vec.of(scene.light_position[light]) - middle
    axis = offset.unit()
    sin = jnp.clip((light_reach - reach) / offset.dot(axis), -0.99, 0.99)
    cos = jnp.sqrt(1 - sin**2)
    centre = Vec(scene.x, scene.y, scene.radius) - middle
    along, across = centre.dot(axis), centre.cross(axis)
    room = reach + ball_radii(scene, solids)
    outside = jnp.sqrt(across.dot(across)) * cos - along * sin
    near = (outside < room) & (along > -room) & (jnp.arange(MAX_OBJECTS) < scene.count)
    (objects,) = jnp.nonzero(near, size=MAX_OBJECTS)
    return objects, near.sum()


def blocked(
    scene: Scene,
    solids: tuple[Solid, ...],
    origin: Vec,
    direction: Vec,
    limit: Any,
    skip: Any,
    among: tuple[Any, Any],
) -> Any:
    """Whether an object stands between the origin and `limit`.

    `skip` is the object where rays start, `among` the objects to look at and how many they are.
    """
    objects, count = among

    def add_object(i: Any, found: Any) -> Any:
        k = objects[i]

        def either(solid: Solid) -> Any:
            hit = solid.blocks(*to_unit_frame(scene, k, origin, direction), limit)
            return found | (hit & (skip != k) if solid.convex else hit)

        return _for_kind(scene.kind[k], solids, either)

    return jax.lax.fori_loop(0, count, add_object, jnp.zeros(direction.x.shape, bool))


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


def before_sweep(origin: Vec, direction: Vec, distance: Any, index: Any) -> tuple[Any, Any]:
    """What rays meet first: distance and index of an object, or of the sweep or nothing (-1)."""
    sweep = trace_sweep(origin, direction)
    return jnp.minimum(distance, sweep), jnp.where(sweep < distance, -1, index)


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
    among = _between(scene, solids, point, light)
    shadow = blocked(scene, solids, point, direction, distance, skip, among)
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
