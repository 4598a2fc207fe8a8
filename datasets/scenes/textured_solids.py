"""Pictures of textured solids in CLEVR's studio: direct light, soft shadows, an ambient term.

Unlike CLEVR's materials these follow no bounced rays; relief bends normals and moves no surface.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from datasets.scenes import (
    clevr_materials,
    distance_fields,
    reflectance,
    sampling,
    studio,
    textures,
)
from datasets.scenes.ray_casting import CUBE, CYLINDER, SPHERE, Vec, dither, where
from datasets.scenes.sampling import Window

SOLIDS = {
    "cube": CUBE,
    "sphere": SPHERE,
    "cylinder": CYLINDER,
    "head": distance_fields.HEAD,
    "cone": distance_fields.CONE,
    "icosahedron": distance_fields.ICOSAHEDRON,
    "torus": distance_fields.TORUS,
    "teapot": distance_fields.TEAPOT,
}
_ALPHA_FLOOR = 0.1  # the sharpest gloss that four samples of a light can draw
_DIELECTRIC = 0.04  # head-on reflectance


def labels(scene: studio.Scene, height: int, width: int, window: Window) -> jax.Array:
    """The object at each pixel's centre, plus 1: uint8 [height, width]."""
    places = sampling.pixel_centres(height, width, window)
    _, index = studio.trace_view(scene, tuple(SOLIDS.values()), *places)
    return (index + 1).astype(jnp.uint8).reshape(height, width)


def picture(
    scene: studio.Scene,
    materials: textures.Material,
    start: Any,
    height: int,
    width: int,
    window: Window,
) -> sampling.Drawn:
    """Draws one scene; `materials` has the ground's row first, then the objects'."""
    columns, rows = sampling.sample_positions(height, width, window)
    column, row = sampling.everywhere(
        start[0] + jnp.arange(len(columns)), start[1] + jnp.arange(len(rows))
    )
    origin, direction = studio.camera_rays(scene, *sampling.everywhere(columns, rows))
    seen = studio.trace_view(scene, tuple(SOLIDS.values()), columns, rows)
    distance, index = studio.before_sweep(origin, direction, *seen)
    point, view = origin + direction * distance, -direction

    groups = sampling.grouped(index + 1, 1 + studio.MAX_OBJECTS, height, width)

    def draw_entity(entity: Any, canvas: Vec) -> Vec:
        material = jax.tree.map(lambda a: a[entity + 1], materials)

        def shade(ids: Any) -> Vec:
            picked = jax.tree.map(lambda a: a[ids], (point, view, column, row))
            return _radiance(scene, material, entity, *picked)

        return sampling.shade_group(groups, entity + 1, canvas, shade)

    # One entity at a time, so that only its own pattern is computed.
    radiance = jax.lax.fori_loop(-1, scene.count, draw_entity, Vec.full(column.shape))
    return sampling.tonemap(radiance, height, width), labels(scene, height, width, window)


def _surface(scene: studio.Scene, entity: Any, point: Vec) -> tuple[Vec, Vec, Any, Any]:
    """Of one entity: where its pattern is read, its normal, cosine and sine of its rotation."""
    k = jnp.maximum(entity, 0)
    ground = entity < 0
    centre = Vec(scene.x[k], scene.y[k], scene.radius[k])
    local, _ = studio.to_unit_frame(scene, k, point, point)
    bare = jax.lax.switch(scene.kind[k], [s.normal for s in SOLIDS.values()], local)
    cos, sin = jnp.where(ground, 1.0, scene.cos[k]), jnp.where(ground, 0.0, scene.sin[k])
    turned = Vec(cos * bare.x - sin * bare.y, sin * bare.x + cos * bare.y, bare.z)
    normal = where(ground, studio.sweep_normal(point), turned)
    place = where(ground, point, point - centre)
    read = Vec(cos * place.x + sin * place.y, cos * place.y - sin * place.x, place.z)
    return read, normal, cos, sin


def _bumped(normal: Vec, view: Vec, gradient: Vec) -> Vec:
    """The normal of a surface that rises along `gradient`, never turned away from the viewer."""
    along = gradient - normal * normal.dot(gradient)
    bumped = (normal - along).unit()
    away = jnp.minimum(bumped.dot(view) - 1e-2, 0.0)
    return (bumped - view * away).unit()


def _radiance(
    scene: studio.Scene,
    material: textures.Material,
    entity: Any,
    point: Vec,
    view: Vec,
    column: Any,
    row: Any,
) -> Vec:
    """Radiance of points of one entity towards `view`: direct light, shadows, an ambient term."""
    read, bare, cos, sin = _surface(scene, entity, point)
    color, rise = textures.paint(material, read)
    gradient = Vec(cos * rise.x - sin * rise.y, sin * rise.x + cos * rise.y, rise.z)
    normal = _bumped(bare, view, gradient)
    solids = tuple(SOLIDS.values())
    alpha = jnp.maximum(material.roughness, _ALPHA_FLOOR)
    off = point + bare * 1e-3

    def add(light: Any, total: tuple[Vec, Vec]) -> tuple[Vec, Vec]:
        u, v = dither(column, row, 1.0 * light)
        spot = ((jnp.mod(column, 2.0) + u) * 0.5, (jnp.mod(row, 2.0) + v) * 0.5)
        sample = studio.sample_light(scene, solids, light, off, normal, entity, spot)
        lit = jnp.where(bare.dot(sample.direction) > 0, 1.0, 0.0)
        lobe, facing = reflectance.ggx_round(normal, view, sample.direction, alpha)
        shine = lobe * reflectance.schlick(facing, _DIELECTRIC) * lit
        metallic = lobe * lit * material.metal
        matt = lit * ((1 - material.metal) / math.pi)
        diffuse = color * (matt + metallic)
        return total[0] + sample.irradiance * diffuse, total[1] + sample.irradiance * shine

    dark = Vec.full(column.shape)
    body, gloss = jax.lax.fori_loop(0, studio.NUM_LIGHTS, add, (dark, dark))
    below = jnp.where(entity < 0, 0.0, 0.5 - 0.5 * normal.z)
    mirrored = normal * (2 * normal.dot(view)) - view
    seen = jnp.where(mirrored.z < 0, clevr_materials.FLOOR_RADIANCE, 0.05)
    around = clevr_materials.ambient(point, below) * (1 - material.metal) + seen * material.metal
    return body + color * around + gloss * (1 - material.metal)
