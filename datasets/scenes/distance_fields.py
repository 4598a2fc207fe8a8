"""Solids given by a signed distance, met by sphere tracing (Hart 1996).

Distances are in the solid's unit frame: half extent 1, standing on z = -1. A field may
underestimate the distance, never overestimate it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from datasets.scenes.ray_casting import FAR, Solid, Vec

Field = Callable[[Vec], Any]

_BOUND = 1.5  # every solid lies within a ball of this radius
_STEPS = 40
_SHADOW_STEPS = 24
_TOUCH = 2e-3  # closer than this counts as the surface
_CLEARANCE = 0.05  # how far a shadow ray goes before its own surface may stop it


def _length(*parts: Any) -> Any:
    return jnp.sqrt(sum(p * p for p in parts) + 1e-12)


def _ball(p: Vec, centre: tuple[float, float, float], radius: float) -> Any:
    return _length(p.x - centre[0], p.y - centre[1], p.z - centre[2]) - radius


def _capsule(
    p: Vec, start: tuple[float, float, float], end: tuple[float, float, float], radius: float
) -> Any:
    a, axis = Vec(*start), Vec(*(e - s for s, e in zip(start, end, strict=True)))
    offset = p - a
    along = jnp.clip(offset.dot(axis) / axis.dot(axis), 0.0, 1.0)
    rest = offset - axis * along
    return _length(rest.x, rest.y, rest.z) - radius


def _join(a: Any, b: Any, softness: float) -> Any:
    """Union with a rounded seam."""
    blend = jnp.maximum(softness - jnp.abs(a - b), 0.0) / softness
    return jnp.minimum(a, b) - blend * blend * softness * 0.25


def _head(p: Vec) -> Any:
    """An animal's head with ears and a snout: the place of ClevrTex's monkey."""
    mirrored = Vec(p.x, jnp.abs(p.y), p.z)
    skull = _ball(mirrored, (-0.05, 0.0, 0.1), 0.72)
    snout = _ball(mirrored, (0.5, 0.0, -0.4), 0.5)
    ears = _ball(mirrored, (-0.1, 0.72, 0.62), 0.28)
    chin = _ball(mirrored, (0.0, 0.0, -0.6), 0.4)
    brow = _capsule(mirrored, (0.5, 0.0, 0.42), (0.42, 0.35, 0.38), 0.16)
    head = _join(_join(skull, snout, 0.3), _join(ears, chin, 0.1), 0.15)
    return _join(head, brow, 0.15)


def _cone(p: Vec) -> Any:
    slope = 1 / math.sqrt(5)  # apex half angle: radius 1 at the base, height 2
    side = (_length(p.x, p.y) * 2 + p.z - 1) * slope
    rounding = 0.06
    return jnp.maximum(side + rounding, -p.z - 1 + rounding) - rounding


def _icosahedron(p: Vec) -> Any:
    golden = (1 + math.sqrt(5)) / 2
    scale = 1 / math.sqrt(3)
    # The twenty face normals are (1, 1, 1) and the rotations of (0, 1 / golden, golden).
    x, y, z = jnp.abs(p.x), jnp.abs(p.y), jnp.abs(p.z)
    a, b = golden * scale, scale / golden
    faces = jnp.maximum(
        jnp.maximum((x + y + z) * scale, a * x + b * z), jnp.maximum(a * y + b * x, a * z + b * y)
    )
    return faces - 0.934  # the lowest edge lies on z = -1


def _torus(p: Vec) -> Any:
    return _length(_length(p.x, p.y) - 0.68, p.z + 0.68) - 0.32


def _teapot(p: Vec) -> Any:
    flat = Vec(p.x, p.y, (p.z + 0.2) * 1.1)
    body = _ball(flat, (0.0, 0.0, 0.0), 0.72) * 0.9
    foot = jnp.maximum(_length(p.x, p.y) - 0.5, jnp.abs(p.z + 0.9) - 0.1)
    spout = _capsule(p, (0.55, 0.0, -0.35), (1.0, 0.0, 0.3), 0.13)
    ring = _length(_length(p.x + 0.7, p.z + 0.15) - 0.32, p.y) - 0.08
    knob = _join(_ball(p, (0.0, 0.0, 0.66), 0.14), _ball(p, (0.0, 0.0, 0.4), 0.3), 0.1)
    return _join(_join(body, foot, 0.1), jnp.minimum(_join(spout, knob, 0.05), ring), 0.06)


def _bounds(origin: Vec, direction: Vec) -> tuple[Any, Any]:
    """Distances between which a ray is inside the bounding ball (empty where far < near)."""
    a, half_b = direction.dot(direction), origin.dot(direction)
    closest = origin - direction * (half_b / a)
    room = _BOUND**2 - closest.dot(closest)
    reach = jnp.sqrt(jnp.maximum(room, 0.0) / a)
    return -half_b / a - reach, jnp.where(room > 0, -half_b / a + reach, -FAR)


def _march(field: Field, origin: Vec, direction: Vec, start: Any, steps: int) -> tuple[Any, Any]:
    """Where rays stand after sphere tracing from `start`, and their distance to the surface."""
    scale = jax.lax.rsqrt(direction.dot(direction))

    def step(_: Any, t: Any) -> Any:
        gap = field(origin + direction * t)
        return t + jnp.where(gap > _TOUCH / 4, gap, 0.0) * scale

    t = jax.lax.fori_loop(0, steps, step, start)
    return t, field(origin + direction * t)


def _solid(field: Field, *, ball: float, core: float) -> Solid:
    def enter(origin: Vec, direction: Vec) -> Any:
        near, far = _bounds(origin, direction)
        t, gap = _march(field, origin, direction, jnp.maximum(near, 0.0), _STEPS)
        return jnp.where((gap < _TOUCH) & (t < far) & (far > 0), t, FAR)

    def blocks(origin: Vec, direction: Vec, limit: Any) -> Any:
        near, far = _bounds(origin, direction)
        clear = _CLEARANCE * jax.lax.rsqrt(direction.dot(direction))
        t, gap = _march(field, origin, direction, jnp.maximum(near, clear), _SHADOW_STEPS)
        return (gap < _TOUCH) & (t < far) & (far > 0) & (t < limit)

    def normal(point: Vec) -> Vec:
        small = 1e-3
        x, y, z = (Vec(*(small * (i == axis) for i in range(3))) for axis in range(3))
        return Vec(*(field(point + e) - field(point - e) for e in (x, y, z))).unit()

    return Solid(enter, enter, blocks, normal, ball, core, convex=False)


HEAD = _solid(_head, ball=1.26, core=0.6)
CONE = _solid(_cone, ball=1.43, core=0.4)
ICOSAHEDRON = _solid(_icosahedron, ball=1.2, core=0.92)
TORUS = _solid(_torus, ball=1.31, core=0.0)
TEAPOT = _solid(_teapot, ball=1.2, core=0.45)
