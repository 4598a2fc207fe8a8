"""How CLEVR's floor, rubber and metal look: direct light, shadows, mirrors and bounced light.

Material constants are those of the node trees in clevr-dataset-gen (`Rubber`, `MyMetal`); the
floor carries no material there, which Blender 5 draws as a rough plastic of albedo 0.8 (2.7 had
no gloss there). Radiances are linear RGB. Object samples follow bounced rays; what these meet is
lit directly and by an estimate of the light that has bounced more often.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from datasets.scenes import reflectance, studio
from datasets.scenes.ray_casting import (
    CUBE,
    CYLINDER,
    FAR,
    SPHERE,
    Vec,
    cosine_direction,
    dither,
    ggx_half_vector,
    where,
)
from datasets.scenes.studio import NUM_LIGHTS, Scene

SOLIDS = (CUBE, SPHERE, CYLINDER)

# Rubber: diffuse and velvet mixed by one Fresnel node, then a white gloss by another.
VELVET_IOR, GLOSS_IOR = 1.4, 1.2
VELVET_SIGMA, GLOSS_ALPHA, GLOSS_WHITE = 0.6, 0.35, 0.8
# Metal: two anisotropic GGX lobes of roughness 0.01 and 0.2.
SHARP_SHARE = 0.6
SHARP_ALPHA = (0.0075, 0.0133)
BROAD_ALPHA = (0.15, 0.267)
BLURRED_ALPHA = 0.3  # of metal seen by a bounced ray; Cycles blurs such paths too
# Rays followed from an object's sample. Metal: one sharp, the others broad; rubber: one glossy,
# the others diffuse.
BOUNCES = 5

FLOOR_ALBEDO, FLOOR_ALPHA, FLOOR_F0 = 0.8, 0.25, 0.04
# Measured in Cycles on the empty studio. Share of the floor's gloss: a polynomial in 1 - cos;
# radiance bounced by the sweep onto itself, as the diffuse and the glossy part receive it:
# polynomials in the sweep's coordinates over 10 (see `_on_sweep`).
FLOOR_GLOSS = (0.186276, -0.019362, 0.031674, 0.034795)
STUDIO_DIFFUSE = (0.01621, 0.013856, -2.8e-5, 0.0074, -7.2e-5, -0.00109, -0.0089, -2.5e-4, 6.7e-5)
STUDIO_GLOSSY = (
    *(0.08442, 0.07241, 0.01413, -0.03882, -0.01435, -0.02793),
    *(-0.00979, -0.00044, 0.01645),
)
# Estimates for light that bounced more often than rays are followed.
FLOOR_RADIANCE = 0.15  # what an object's underside sees
METAL_SURROUNDINGS = 0.12  # what a metal seen in a mirror reflects
FLOOR_ONTO_OBJECTS = 0.2  # irradiance
CROSS_SECTION = (6 / math.pi, 1.0, 1.5)  # mean area of cube, sphere, cylinder over the ball's
MAX_HIDDEN = 0.4  # of the floor's sky, by one object


class Glow(NamedTuple):
    """Objects as evenly coloured balls that light the floor: [MAX_OBJECTS, NUM_LIGHTS, 3].

    `direction` points from an object to a light, `radiosity` is what a patch facing it sends out.
    """

    direction: Any
    radiosity: Any


def _grey(value: Any) -> Vec:
    return Vec(value, value, value)


def _on_sweep(coefficients: tuple[float, ...], point: Vec) -> Any:
    """A cubic of the sweep's coordinates, held constant beyond what a camera sees."""
    s = jnp.clip(studio.RISE[0] * point.x + studio.RISE[1] * point.y, -6, 14) * 0.1
    w = jnp.clip(studio.DEPTH[0] * point.x + studio.DEPTH[1] * point.y, -15, 6) * 0.1
    c = coefficients
    even = c[0] + c[1] * s + c[2] * w + c[3] * s * s + c[4] * s * w + c[5] * w * w
    return even + s * (c[6] * s * s + c[7] * s * w + c[8] * w * w)


def _strata(column: Any, row: Any, dimension: Any) -> tuple[Any, Any]:
    """A spot of [0, 1)^2; the four samples of a pixel lie in the four quarters of the square."""
    u, v = dither(column, row, 1.0 * dimension)
    return (jnp.mod(column, 2.0) + u) * 0.5, (jnp.mod(row, 2.0) + v) * 0.5


def ambient(point: Vec, below: Any) -> Any:
    """Radiance that has bounced in the studio; `below` is the share of a floor in the view."""
    return _on_sweep(STUDIO_DIFFUSE, point) * (1 - below) + FLOOR_RADIANCE * below


# ---------------------------------------------------------------- floor
def glow_of(scene: Scene) -> Glow:
    """Light that objects send back to the floor; whether a light reaches one is tested once."""
    centre = Vec(scene.x, scene.y, scene.radius)
    own = jnp.arange(studio.MAX_OBJECTS)
    middle = jnp.full(own.shape, 0.5)
    directions, radiosities = [], []
    for light in range(NUM_LIGHTS):
        towards = (Vec.of(scene.light_position[light]) - centre).unit()
        sample = studio.sample_light(scene, SOLIDS, light, centre, towards, own, (middle, middle))
        directions.append(jnp.stack([towards.x, towards.y, towards.z], axis=-1))
        lit = sample.irradiance
        radiosities.append(scene.color * jnp.stack([lit.x, lit.y, lit.z], axis=-1))
    return Glow(jnp.stack(directions, axis=1), jnp.stack(radiosities, axis=1))


def _bounced_by_objects(scene: Scene, glow: Glow, point: Vec, normal: Vec) -> tuple[Vec, Any]:
    """Irradiance of the floor from objects, and the share of the hemisphere they hide."""
    area = jnp.asarray(CROSS_SECTION)[scene.kind]

    def add(k: Any, total: tuple[Vec, Any]) -> tuple[Vec, Any]:
        radius = scene.radius[k]
        offset = Vec(scene.x[k], scene.y[k], radius) - point
        squared = jnp.maximum(offset.dot(offset), radius**2)
        inverse = jax.lax.rsqrt(squared)
        facing = jnp.maximum(normal.dot(offset), 0.0) * inverse
        hidden = jnp.minimum(facing * radius**2 * area[k] / squared, MAX_HIDDEN)
        sent = Vec.of(scene.color[k]) * FLOOR_ONTO_OBJECTS
        for light in range(NUM_LIGHTS):
            cos = -inverse * offset.dot(Vec.of(glow.direction[k, light]))
            # Within 0.01 of the phase function of a Lambertian ball.
            phase = 0.2122 + cos * (1 / 3 + cos * 0.1212)
            sent = sent + Vec.of(glow.radiosity[k, light]) * phase
        return total[0] + sent * hidden, total[1] + hidden

    shape = point.x.shape
    return jax.lax.fori_loop(0, scene.count, add, (Vec.full(shape), jnp.zeros(shape)))


def floor_radiance(
    glow: Glow, scene: Scene, point: Vec, index: Any, view: Vec, column: Any, row: Any
) -> Vec:
    """Radiance of points on the sweep towards `view`; `index` is -1, that of no object."""
    normal = studio.sweep_normal(point)
    slant = 1 - jnp.clip(normal.dot(view), 0.0, 1.0)
    a, b, c, d = FLOOR_GLOSS
    gloss = d + slant * (c + slant * (b + slant * a))

    def add(light: Any, total: tuple[Vec, Vec]) -> tuple[Vec, Vec]:
        spot = _strata(column, row, light)
        sample = studio.sample_light(scene, SOLIDS, light, point, normal, index, spot)
        lobe, cos = reflectance.ggx_round(normal, view, sample.direction, FLOOR_ALPHA)
        shine = lobe * reflectance.schlick(cos, FLOOR_F0)
        return total[0] + sample.irradiance, total[1] + sample.irradiance * shine

    dark = Vec.full(point.x.shape)
    diffuse, glossy = jax.lax.fori_loop(0, NUM_LIGHTS, add, (dark, dark))
    bounced, hidden = _bounced_by_objects(scene, glow, point, normal)
    around = ambient(point, 0.0) * (1 - jnp.minimum(hidden, 1.0))
    diffuse = (diffuse + bounced) * (1 / math.pi) + _grey(around)
    albedo = FLOOR_ALBEDO * (1 - gloss)
    return diffuse * albedo + glossy + _grey(gloss * _on_sweep(STUDIO_GLOSSY, point))


# ---------------------------------------------------------------- objects
class Skin(NamedTuple):
    """What samples on objects see of them: local frame, colour, material."""

    normal: Vec
    tangent: Vec  # around the object's axis, along which metal is brushed
    color: Vec
    metal: Any  # bool


def _skin(scene: Scene, index: Any, point: Vec, view: Vec) -> Skin:
    k = jnp.maximum(index, 0)
    radius, cos, sin, kind = scene.radius[k], scene.cos[k], scene.sin[k], scene.kind[k]
    q = (point - Vec(scene.x[k], scene.y[k], radius)) * (1 / radius)
    local = Vec(cos * q.x + sin * q.y, cos * q.y - sin * q.x, q.z)
    n = SOLIDS[0].normal(local)
    for i, solid in enumerate(SOLIDS[1:], start=1):
        n = where(kind == i, solid.normal(local), n)
    normal = Vec(cos * n.x - sin * n.y, sin * n.x + cos * n.y, n.z)
    # At a silhouette a normal may point a little away from the viewer: a dark hairline without
    # this.
    away = jnp.minimum(normal.dot(view) - 1e-3, 0.0)
    normal = (normal - view * away).unit()
    around = Vec(-q.y, q.x + 1e-6, jnp.zeros_like(q.x))
    tangent = (around - normal * normal.dot(around)).unit()
    color = Vec(*(scene.color[:, channel][k] for channel in range(3)))
    return Skin(normal, tangent, color, scene.metal[k] > 0.5)


def _lights_for(bounce: Any) -> tuple[Any, Any]:
    """Which lights light what a bounced ray meets: a range that stands for all of them.

    The first ray is alone in its lobe. The others share one, so each takes a half in turn.
    """
    half = NUM_LIGHTS // 2
    first = bounce % 2 * half
    return first, jnp.where(bounce == 0, NUM_LIGHTS, first + half)


def _arriving(
    scene: Scene,
    origin: Vec,
    direction: Vec,
    skip: Any,
    spots: tuple[Any, Any, Any],
    lights: tuple[Any, Any],
) -> tuple[Vec, Any]:
    """Radiance along bounced rays and how far they went.

    `spots` is (column, row, dimension); `lights` is a range of them that stands for all.
    """
    seen = studio.intersect_hulls(scene, SOLIDS, origin, direction, skip)
    t, index = studio.before_sweep(origin, direction, *seen)
    missed = t >= FAR
    point = origin + direction * jnp.where(missed, 50.0, t)
    view, floor = -direction, index < 0
    skin = _skin(scene, index, point, view)
    normal = where(floor, studio.sweep_normal(point), skin.normal)
    column, row, dimension = spots

    def add(light: Any, total: tuple[Vec, Vec]) -> tuple[Vec, Vec]:
        spot = dither(column, row, dimension + light)
        sample = studio.sample_light(scene, SOLIDS, light, point, normal, index, spot)
        lobe, _ = reflectance.ggx_round(normal, view, sample.direction, BLURRED_ALPHA)
        return total[0] + sample.irradiance, total[1] + sample.irradiance * lobe

    dark = Vec.full(point.x.shape)
    lit = jax.lax.fori_loop(*lights, add, (dark, dark))
    diffuse, glossy = (v * (NUM_LIGHTS / (lights[1] - lights[0])) for v in lit)
    around = ambient(point, jnp.where(floor, 0.0, 0.5 - 0.5 * normal.z))
    albedo = where(floor, Vec.full(t.shape, FLOOR_ALBEDO), skin.color)
    matt = (diffuse * (1 / math.pi) + _grey(around)) * albedo
    metal = (glossy + Vec.full(t.shape, METAL_SURROUNDINGS)) * skin.color
    seen = where(skin.metal & ~floor, metal, matt)
    return where(missed, dark, seen), t


def _direct(
    scene: Scene,
    skin: Skin,
    point: Vec,
    index: Any,
    place: tuple[Any, Any],
    reflected: Callable[[studio.Sample], Vec],
) -> Vec:
    """Radiance of the lights by a surface that sends back `reflected` (1/sr) of a sample."""

    def add(light: Any, total: Vec) -> Vec:
        spot = _strata(*place, light)
        sample = studio.sample_light(scene, SOLIDS, light, point, skin.normal, index, spot)
        return total + sample.irradiance * reflected(sample)

    return jax.lax.fori_loop(0, NUM_LIGHTS, add, Vec.full(point.x.shape))


def metal_radiance(scene: Scene, point: Vec, index: Any, view: Vec, column: Any, row: Any) -> Vec:
    """Radiance of points on metal objects `index` towards `view`."""
    skin = _skin(scene, index, point, view)
    normal, tangent = skin.normal, skin.tangent
    across = normal.cross(tangent)
    local_view = Vec(tangent.dot(view), across.dot(view), jnp.maximum(normal.dot(view), 1e-3))

    def reflected(sample: studio.Sample) -> Vec:
        frame = (normal, tangent, view, sample.direction)
        broad, _ = reflectance.ggx(*frame, *BROAD_ALPHA)
        sharp, mirrored = reflectance.ggx(*frame, *SHARP_ALPHA)
        # Mirror rays find this light as well: the balance heuristic shares it out.
        sharp = sharp * sample.density / (sample.density + mirrored)
        return skin.color * ((1 - SHARP_SHARE) * broad + SHARP_SHARE * sharp)

    def add(bounce: Any, total: Vec) -> Vec:
        is_sharp = bounce == 0
        alpha = [jnp.where(is_sharp, s, b) for s, b in zip(SHARP_ALPHA, BROAD_ALPHA, strict=True)]
        h = ggx_half_vector(local_view, *alpha, *_strata(column, row, 31.0 + bounce))
        half = tangent * h.x + across * h.y + normal * h.z
        direction = half * (2 * half.dot(view)) - view
        spots = (column, row, 61.0 + NUM_LIGHTS * bounce)
        seen, limit = _arriving(scene, point, direction, index, spots, _lights_for(bounce))

        def with_lights() -> Vec:
            _, density = reflectance.ggx(normal, tangent, view, direction, *alpha)
            return seen + studio.emitted(scene, point, direction, limit, density)

        seen = jax.lax.cond(is_sharp, with_lights, lambda: seen)
        lobe = jnp.where(is_sharp, SHARP_SHARE, (1 - SHARP_SHARE) / (BOUNCES - 1))
        leaving = direction.dot(normal)
        masking = reflectance.masking(jnp.maximum(leaving, 1e-3), alpha[0] * alpha[1])
        return total + seen * jnp.where(leaving > 0, lobe * masking, 0.0)

    direct = _direct(scene, skin, point, index, (column, row), reflected)
    bounced = jax.lax.fori_loop(0, BOUNCES, add, Vec.full(point.x.shape))
    return direct + skin.color * bounced


def rubber_radiance(scene: Scene, point: Vec, index: Any, view: Vec, column: Any, row: Any) -> Vec:
    """Radiance of points on rubber objects `index` towards `view`."""
    skin = _skin(scene, index, point, view)
    normal, tangent = skin.normal, skin.tangent
    across = normal.cross(tangent)
    facing = jnp.maximum(normal.dot(view), 1e-3)
    by_velvet = reflectance.fresnel(facing, VELVET_IOR)
    by_gloss = reflectance.fresnel(facing, GLOSS_IOR)
    diffuse, velvet = (1 - by_velvet) * (1 - by_gloss), by_velvet * (1 - by_gloss)
    gloss = GLOSS_WHITE * by_gloss
    # The velvet's share that comes back, integrated over the hemisphere: (1 - cos)^1.4.
    scattering = skin.color * ((diffuse + velvet * (1 - facing) ** 1.4) / (BOUNCES - 1))

    def reflected(sample: studio.Sample) -> Vec:
        frame = (normal, view, sample.direction)
        matt = diffuse * (1 / math.pi) + velvet * reflectance.velvet(*frame, VELVET_SIGMA)
        return skin.color * matt + _grey(gloss * reflectance.beckmann(*frame, GLOSS_ALPHA))

    def add(bounce: Any, total: Vec) -> Vec:
        u, v = _strata(column, row, 31.0 + bounce)

        def mirrored() -> tuple[Vec, Vec]:
            local_view = Vec(tangent.dot(view), across.dot(view), facing)
            h = ggx_half_vector(local_view, GLOSS_ALPHA, GLOSS_ALPHA, u, v)
            half = tangent * h.x + across * h.y + normal * h.z
            direction = half * (2 * half.dot(view)) - view
            leaving = direction.dot(normal)
            outward = jnp.maximum(leaving, 1e-3)
            masking = reflectance.beckmann_masking(facing, outward, GLOSS_ALPHA)
            return direction, _grey(jnp.where(leaving > 0, gloss * masking, 0.0))

        def scattered() -> tuple[Vec, Vec]:
            return cosine_direction(normal, u, v), scattering

        direction, weight = jax.lax.cond(bounce == 0, mirrored, scattered)
        spots = (column, row, 61.0 + NUM_LIGHTS * bounce)
        seen, _ = _arriving(scene, point, direction, index, spots, _lights_for(bounce))
        return total + seen * weight

    direct = _direct(scene, skin, point, index, (column, row), reflected)
    return jax.lax.fori_loop(0, BOUNCES, add, direct)
