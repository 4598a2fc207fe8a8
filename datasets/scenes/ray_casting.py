"""Rays against convex solids, in JAX: vectors, three solids, samplers of directions.

Every array is a structure of arrays (`Vec` holds x, y and z apart), because XLA's CPU code runs
several times faster on long contiguous arrays than on `[..., 3]`. Solids live in their own unit
frame: half extent 1, centre at the origin, z up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

FAR = 1e9  # the distance of a ray that hits nothing
CUBE_FLAT = 0.75  # the cube's faces are flat up to here; its edges are cubic superellipses
CYLINDER_FLAT = 0.9  # likewise the cylinder's rim, a superellipse of degree 4
REFINEMENTS = 4  # Newton steps from the bounding box to a rounded edge
# A quarter of the way from miss to surface in the cubed gauge: 0.01 of the solid's half extent.
GRAZING = 0.05
CUBE_BALL, SPHERE_BALL, CYLINDER_BALL = 1.65, 1.001, 1.415  # radii that hold solids and hulls


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Vec:
    """Three components of one shape, with the arithmetic of vectors and of colours."""

    x: Any
    y: Any
    z: Any

    def __add__(self, other: Vec) -> Vec:
        return Vec(self.x + other.x, self.y + other.y, self.z + other.z)

    def __sub__(self, other: Vec) -> Vec:
        return Vec(self.x - other.x, self.y - other.y, self.z - other.z)

    def __mul__(self, other: Any) -> Vec:
        if isinstance(other, Vec):
            return Vec(self.x * other.x, self.y * other.y, self.z * other.z)
        return Vec(self.x * other, self.y * other, self.z * other)

    __rmul__ = __mul__

    def __neg__(self) -> Vec:
        return Vec(-self.x, -self.y, -self.z)

    def dot(self, other: Vec) -> Any:
        return self.x * other.x + self.y * other.y + self.z * other.z

    def cross(self, other: Vec) -> Vec:
        return Vec(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )

    def unit(self) -> Vec:
        return self * jax.lax.rsqrt(jnp.maximum(self.dot(self), 1e-18))

    def map(self, function: Callable[[Any], Any]) -> Vec:
        return Vec(function(self.x), function(self.y), function(self.z))

    @staticmethod
    def of(array: Any) -> Vec:
        """The vector whose components are the last axis of an array `[..., 3]`."""
        return Vec(array[..., 0], array[..., 1], array[..., 2])

    @staticmethod
    def full(shape: tuple[int, ...], value: float = 0.0) -> Vec:
        return Vec(*(jnp.full(shape, value, jnp.float32) for _ in range(3)))


def where(condition: Any, yes: Vec, no: Vec) -> Vec:
    """Componentwise choice between two vectors."""
    return Vec(
        jnp.where(condition, yes.x, no.x),
        jnp.where(condition, yes.y, no.y),
        jnp.where(condition, yes.z, no.z),
    )


class Solid(NamedTuple):
    """A solid in its unit frame.

    Attributes:
      enter: (origin, direction) -> distance to the entry point, FAR where the ray misses.
      intersect_hull: as `enter`, of a simpler hull: what mirrors and other surfaces see.
      blocks: (origin, direction, limit) -> whether the ray is stopped before `limit`, by the hull.
      normal: point on the surface -> unit normal.
      ball: radius of a ball about the centre that holds it and its hull.
      core: radius of a ball about the centre that it holds; 0 where none is known.
      convex: no ray that leaves it meets it again.
    """

    enter: Callable[[Vec, Vec], Any]
    intersect_hull: Callable[[Vec, Vec], Any]
    blocks: Callable[[Vec, Vec, Any], Any]
    normal: Callable[[Vec], Vec]
    ball: float
    core: float
    convex: bool = True


def _reciprocal(x: Any) -> Any:
    return 1.0 / jnp.where(jnp.abs(x) < 1e-7, 1e-7, x)


def _slab(position: Any, speed: Any, half_width: float) -> tuple[Any, Any]:
    """Distances at which a ray enters and leaves |coordinate| <= half_width."""
    inverse = _reciprocal(speed)
    middle, reach = -position * inverse, half_width * jnp.abs(inverse)
    return middle - reach, middle + reach


Hull = Callable[[Vec, Vec], tuple[Any, Any]]  # to where a ray enters and leaves; far < near: never


def _rounded(
    enter: Callable[[Vec, Vec], Any], hull: Hull, normal: Callable[[Vec], Vec], ball: float
) -> Solid:
    """A solid whose rounded edges lie a little inside a simpler hull."""

    def intersect_hull(origin: Vec, direction: Vec) -> Any:
        near, far = hull(origin, direction)
        return jnp.where((near > 0) & (near < far), near, FAR)

    def blocks(origin: Vec, direction: Vec, limit: Any) -> Any:
        near, far = hull(origin, direction)
        # A ray may start in the hull, under a rounded edge.
        return (far > jnp.maximum(near, 0.0)) & (near < limit)

    return Solid(enter, intersect_hull, blocks, normal, ball=ball, core=1.0)


def _sphere_enter(origin: Vec, direction: Vec) -> Any:
    a = direction.dot(direction)
    half_b = origin.dot(direction)
    # The vector to the closest approach, squared, loses fewer digits than b^2 - 4ac.
    closest = origin - direction * (half_b / a)
    room = 1.0 - closest.dot(closest)
    t = (-half_b - jnp.sqrt(jnp.maximum(room, 0.0) * a)) / a
    return jnp.where((room > 0) & (t > 0), t, FAR)


def _sphere_blocks(origin: Vec, direction: Vec, limit: Any) -> Any:
    """By where the ray is closest to the centre: no ray starts or ends in a ball."""
    nearest = -origin.dot(direction) / direction.dot(direction)
    closest = origin + direction * nearest
    return (closest.dot(closest) < 1) & (nearest > 0) & (nearest < limit)


def _box_slabs(origin: Vec, direction: Vec) -> tuple[Any, Any]:
    near_x, far_x = _slab(origin.x, direction.x, 1.0)
    near_y, far_y = _slab(origin.y, direction.y, 1.0)
    near_z, far_z = _slab(origin.z, direction.z, 1.0)
    near = jnp.maximum(jnp.maximum(near_x, near_y), near_z)
    return near, jnp.minimum(jnp.minimum(far_x, far_y), far_z)


def _refine(gauge: Callable[[Any], tuple[Any, Any]], near: Any, far: Any, tolerance: float) -> Any:
    """Newton's method on a convex gauge, from outside: it never steps over the surface."""
    t, escaped = near, far <= near
    for _ in range(REFINEMENTS):
        value, slope = gauge(t)
        escaped |= (slope >= 0) & (value > tolerance)
        t = jnp.where(value > 0, t - value / jnp.minimum(slope, -1e-6), t)
    value, _ = gauge(t)
    missed = escaped | (value > tolerance) | (t > far) | (near <= 0)
    return jnp.where(missed, FAR, t)


def _excess(position: Any, flat: float) -> Any:
    """How far a coordinate lies beyond the flat part, in units of the rounding's width."""
    return jnp.maximum(jnp.abs(position) - flat, 0.0) / (1 - flat)


def _cube_enter(origin: Vec, direction: Vec) -> Any:
    near, far = _box_slabs(origin, direction)

    def gauge(t: Any) -> tuple[Any, Any]:
        point = origin + direction * t
        e = point.map(lambda p: _excess(p, CUBE_FLAT))
        signs = point.map(jnp.sign)
        squares = e * e
        value = squares.dot(e) - 1.0
        return value, 3.0 / (1 - CUBE_FLAT) * (squares * signs).dot(direction)

    return _refine(gauge, near, far, GRAZING)


def _cube_hull(origin: Vec, direction: Vec) -> tuple[Any, Any]:
    """The cube with its twelve edges cut at 45 degrees, tangent to the rounded ones."""
    near, far = _box_slabs(origin, direction)
    reach = 2 * (CUBE_FLAT + (1 - CUBE_FLAT) * 0.5 ** (1 / 3))
    axes = ("x", "y", "z")
    for i in range(3):
        for sign in (1.0, -1.0):
            first, second = axes[i], axes[(i + 1) % 3]
            position = getattr(origin, first) + sign * getattr(origin, second)
            speed = getattr(direction, first) + sign * getattr(direction, second)
            t0, t1 = _slab(position, speed, reach)
            near, far = jnp.maximum(near, t0), jnp.minimum(far, t1)
    return near, far


def _cube_normal(point: Vec) -> Vec:
    return point.map(lambda p: jnp.sign(p) * _excess(p, CUBE_FLAT) ** 2).unit()


def _cylinder_slabs(origin: Vec, direction: Vec) -> tuple[Any, Any]:
    a = jnp.maximum(direction.x**2 + direction.y**2, 1e-9)
    half_b = origin.x * direction.x + origin.y * direction.y
    closest_x = origin.x - direction.x * (half_b / a)
    closest_y = origin.y - direction.y * (half_b / a)
    room = 1.0 - closest_x**2 - closest_y**2
    reach = jnp.sqrt(jnp.maximum(room, 0.0) / a)
    near_z, far_z = _slab(origin.z, direction.z, 1.0)
    near = jnp.maximum(-half_b / a - reach, near_z)
    far = jnp.minimum(-half_b / a + reach, far_z)
    return near, jnp.where(room > 0, far, -FAR)


def _cylinder_enter(origin: Vec, direction: Vec) -> Any:
    near, far = _cylinder_slabs(origin, direction)

    def gauge(t: Any) -> tuple[Any, Any]:
        p = origin + direction * t
        radius = jnp.sqrt(p.x**2 + p.y**2 + 1e-12)
        outward = (p.x * direction.x + p.y * direction.y) / radius
        side, cap = _excess(radius, CYLINDER_FLAT), _excess(p.z, CYLINDER_FLAT)
        slope = side**3 * outward + cap**3 * jnp.sign(p.z) * direction.z
        return side**4 + cap**4 - 1.0, 4.0 / (1 - CYLINDER_FLAT) * slope

    return _refine(gauge, near, far, GRAZING)


def _cylinder_hull(origin: Vec, direction: Vec) -> tuple[Any, Any]:
    """The cylinder with sharp rims, except for rays that start under one."""
    near, far = _cylinder_slabs(origin, direction)
    radius = jnp.sqrt(origin.x**2 + origin.y**2)
    reach = 2 * (CYLINDER_FLAT + (1 - CYLINDER_FLAT) * 0.5 ** (1 / 4))
    under_rim = (near <= 0) & (radius + jnp.abs(origin.z) > reach)
    return near, jnp.where(under_rim, -FAR, far)


def _cylinder_normal(point: Vec) -> Vec:
    radius = jnp.sqrt(point.x**2 + point.y**2 + 1e-12)
    side = _excess(radius, CYLINDER_FLAT) ** 3 / radius
    cap = jnp.sign(point.z) * _excess(point.z, CYLINDER_FLAT) ** 3
    return Vec(point.x * side, point.y * side, cap).unit()


CUBE = _rounded(_cube_enter, _cube_hull, _cube_normal, CUBE_BALL)
SPHERE = Solid(_sphere_enter, _sphere_enter, _sphere_blocks, Vec.unit, ball=SPHERE_BALL, core=1.0)
CYLINDER = _rounded(_cylinder_enter, _cylinder_hull, _cylinder_normal, CYLINDER_BALL)


def _noise(column: Any, row: Any) -> Any:
    inner = 0.06711056 * column + 0.00583715 * row
    value = 52.9829189 * (inner - jnp.floor(inner))
    return value - jnp.floor(value)


def dither(column: Any, row: Any, dimension: Any) -> tuple[Any, Any]:
    """Points of [0, 1)^2 whose 3x3 neighbourhoods are evenly spread (interleaved gradient noise).

    Jimenez, "Next generation post processing in Call of Duty: Advanced Warfare", 2014; shifted by
    the R2 sequence for each further dimension. A filter over neighbours removes nearly all of the
    sampling noise that it causes.
    """
    u = _noise(column, row) + 0.7548777 * dimension
    v = _noise(row + 31.0, column + 17.0) + 0.5698403 * dimension
    return u - jnp.floor(u), v - jnp.floor(v)


def tangents(normal: Vec) -> tuple[Vec, Vec]:
    """Two unit vectors that complete a right-handed frame (Duff et al., JCGT 2017)."""
    sign = jnp.where(normal.z >= 0, 1.0, -1.0)
    a = -1.0 / (sign + normal.z)
    b = normal.x * normal.y * a
    first = Vec(1.0 + sign * normal.x**2 * a, sign * b, -sign * normal.x)
    return first, Vec(b, sign + normal.y**2 * a, -normal.y)


def _turn(share: Any) -> tuple[Any, Any]:
    """Cosine and sine of `share` in [0, 1) of a full turn, within 4e-4.

    From series for the half angle; a CPU has no vector instruction for either.
    """
    half = math.pi * (share - 0.5)
    square = half * half
    cos = 1 + square * (-1 / 2 + square * (1 / 24 + square * (-1 / 720 + square / 40320)))
    sin = half * (1 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040))))
    return sin * sin - cos * cos, -2 * sin * cos


def cosine_direction(normal: Vec, u: Any, v: Any) -> Vec:
    """A direction with density cos / pi about the normal, from two numbers in [0, 1)."""
    first, second = tangents(normal)
    radius, (cos, sin) = jnp.sqrt(u), _turn(v)
    height = jnp.sqrt(jnp.maximum(1.0 - u, 0.0))
    return first * (radius * cos) + second * (radius * sin) + normal * height


def ggx_half_vector(view: Vec, alpha_x: Any, alpha_y: Any, u: Any, v: Any) -> Vec:
    """A visible GGX normal in the surface's frame (z = normal).

    Spherical caps: Dupuy and Benyoub, "Sampling visible GGX normals with spherical caps", 2023.
    """
    stretched = Vec(view.x * alpha_x, view.y * alpha_y, view.z).unit()
    height = (1.0 - u) * (1.0 + stretched.z) - stretched.z
    radius = jnp.sqrt(jnp.clip(1.0 - height**2, 0.0, 1.0))
    cos, sin = _turn(v)
    cap = Vec(radius * cos, radius * sin, height) + stretched
    return Vec(cap.x * alpha_x, cap.y * alpha_y, jnp.maximum(cap.z, 1e-6)).unit()
