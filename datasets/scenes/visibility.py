"""Whether every object of a scene shows enough of itself, found with few rays.

The rule is about the pixels of the 240x320 picture. Most objects are plainly seen: the ball inside
them covers more pixels than are asked for, even without what the balls around nearer objects hide.
Only the others are counted, the least seen first, in the part of the picture where they are.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from datasets.scenes import sampling, studio
from datasets.scenes.ray_casting import Solid, Vec

PART = 32  # pixels a side of the parts of the picture in which an object is counted
# Areas on the sphere of directions are taken as plane ones, a few thousandths off for angles of
# less than 0.2 radians, and sphere tracing loses a ray in a thousand.
_FLATNESS = 0.98
_PIXELS_PER_TANGENT = studio.WIDTH / 2 / studio.HALF_WIDTH


def every_object_shows(scene: studio.Scene, solids: tuple[Solid, ...], least: int) -> Any:
    """Whether at least `least` pixels of the 240x320 picture show each object of a scene."""
    bound = least_shown(scene, solids)
    order = jnp.argsort(bound)

    def in_doubt(state: tuple[Any, Any]) -> Any:
        i, shows = state
        return shows & (bound[order[i]] < least)

    def count(state: tuple[Any, Any]) -> tuple[Any, Any]:
        i, _ = state
        return i + 1, shown(scene, solids, order[i]) >= least

    return jax.lax.while_loop(in_doubt, count, (jnp.int32(0), jnp.bool_(True)))[1]


def shown(scene: studio.Scene, solids: tuple[Solid, ...], k: Any) -> Any:
    """How many pixels of the 240x320 picture show object k."""
    columns, rows = sampling.pixel_centres(studio.HEIGHT, studio.WIDTH, sampling.Window())
    across, down = studio.screen_box(scene, k, studio.ball_radii(scene, solids)[k])
    left, right = jnp.searchsorted(columns, jnp.stack(across))
    top, bottom = jnp.searchsorted(rows, jnp.stack(down))
    parts_across = -(-(right - left) // PART)
    parts_down = -(-(bottom - top) // PART)

    def add_part(i: Any, count: Any) -> Any:
        first_row, first_column = top + i // parts_across * PART, left + i % parts_across * PART
        # A slice that would go beyond the last pixel starts earlier, with pixels of other parts.
        row = jax.lax.dynamic_slice(rows, (first_row,), (PART,))
        column = jax.lax.dynamic_slice(columns, (first_column,), (PART,))
        own = (row > first_row)[:, None] & (column > first_column)
        _, index = studio.trace_view(scene, solids, column, row)
        return count + (own & (index.reshape(own.shape) == k)).sum()

    return jax.lax.fori_loop(0, parts_across * parts_down, add_part, jnp.int32(0))


def least_shown(scene: studio.Scene, solids: tuple[Solid, ...]) -> Any:
    """A bound: at least so many pixels show each object, inf beyond `count`, [MAX_OBJECTS].

    On the sphere of directions balls are discs. Of the disc of an object's core, what the discs of
    nearer objects' balls leave has as many pixels as its area, except at its border, where those
    whose centre lies outside reach in by up to half a diagonal.
    """
    to_centre = Vec(scene.x, scene.y, scene.radius) - Vec.of(scene.camera)
    distance = jnp.sqrt(to_centre.dot(to_centre))
    direction = to_centre * (1 / distance)
    core = jnp.array([solid.core for solid in solids], jnp.float32)[scene.kind] * scene.radius
    ball = studio.ball_radii(scene, solids)
    inner, outer = (jnp.arcsin(jnp.minimum(r / distance, 1.0)) for r in (core, ball))

    def pairs(values: Any) -> tuple[Any, Any]:
        return values[:, None], values[None, :]

    (of, other), (far, near) = pairs(jnp.arange(studio.MAX_OBJECTS)), pairs(distance)
    hides = (near - ball < far) & (of != other) & (other < scene.count)
    cosines = sum(a * b for a, b in map(pairs, (direction.x, direction.y, direction.z)))
    between = jnp.arccos(jnp.clip(cosines, -1.0, 1.0))
    a, b = inner[:, None], outer[None, :]
    hidden, border = _overlap(a, b, between)
    left = math.pi * inner**2 - jnp.where(hides, hidden, 0.0).sum(1)
    border = 2 * math.pi * inner + jnp.where(hides, border, 0.0).sum(1)

    # A small angle is longer in the picture the farther it is from the middle.
    aside = jnp.arccos(jnp.clip(direction.dot(Vec.of(scene.forward)), -1.0, 1.0))
    nearest, farthest = jnp.maximum(aside - inner, 0.0), jnp.minimum(aside + inner, 1.5)
    area = _FLATNESS * left * _PIXELS_PER_TANGENT**2 / jnp.cos(nearest) ** 3
    bound = area - math.sqrt(0.5) * border * _PIXELS_PER_TANGENT / jnp.cos(farthest) ** 2
    bound = jnp.where(_within_picture(scene, core), bound, 0.0)
    return jnp.where(jnp.arange(studio.MAX_OBJECTS) < scene.count, bound, jnp.inf)


def _overlap(a: Any, b: Any, between: Any) -> tuple[Any, Any]:
    """Of two discs of radii a and b: their common area, and how much of b's border is within a."""
    apart = jnp.maximum(between, 1e-6)

    def half_arc(mine: Any, other: Any) -> Any:
        cos = (apart**2 + mine**2 - other**2) / (2 * apart * jnp.maximum(mine, 1e-6))
        return jnp.arccos(jnp.clip(cos, -1.0, 1.0))

    def segment(radius: Any, half: Any) -> Any:
        return radius**2 * (half - jnp.sin(half) * jnp.cos(half))

    mine, other = half_arc(a, b), half_arc(b, a)
    return segment(a, mine) + segment(b, other), 2 * b * other


def _within_picture(scene: studio.Scene, radius: Any) -> Any:
    """Whether balls of some radius about the objects' centres are seen as a whole."""
    boxes = jax.vmap(studio.screen_box, (None, 0, 0))(scene, jnp.arange(studio.MAX_OBJECTS), radius)
    (left, right), (top, bottom) = boxes
    return (left > 0) & (right < studio.WIDTH) & (top > 0) & (bottom < studio.HEIGHT)
