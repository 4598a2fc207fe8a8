"""Reflection of light at a point: the closed forms behind Blender's shader nodes.

Directions are unit vectors that point away from the surface. Lobes return f, the bidirectional
reflectance in 1/sr, without the cosine of the light.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from datasets.scenes.ray_casting import Vec

_GRAZING = 1e-3  # smallest cosine, so that nothing divides by zero


def _cosines(normal: Vec, view: Vec, light: Vec) -> tuple[Any, Any, Vec, Any]:
    """Cosines of view and light, the half vector, its cosine with the normal."""
    half = (view + light).unit()
    facing_view = jnp.maximum(normal.dot(view), _GRAZING)
    facing_light = jnp.maximum(normal.dot(light), _GRAZING)
    return facing_view, facing_light, half, jnp.clip(normal.dot(half), _GRAZING, 1.0)


def _visibility(facing_view: Any, facing_light: Any, alpha_squared: Any) -> Any:
    """Smith's height-correlated masking over 4 cos cos."""
    rest = 1 - alpha_squared
    light = facing_view * jnp.sqrt(alpha_squared + rest * facing_light**2)
    view = facing_light * jnp.sqrt(alpha_squared + rest * facing_view**2)
    return 0.5 / (light + view)


def masking(facing: Any, alpha_squared: Any) -> Any:
    """Smith's masking of one direction for GGX, in (0, 1]."""
    return 2 * facing / (facing + jnp.sqrt(alpha_squared + (1 - alpha_squared) * facing**2))


def ggx(
    normal: Vec, tangent: Vec, view: Vec, light: Vec, alpha_x: Any, alpha_y: Any
) -> tuple[Any, Any]:
    """GGX, and the density (1/sr) with which visible-normal sampling finds `light`."""
    facing_view, facing_light, half, upright = _cosines(normal, view, light)
    along, across = half.dot(tangent) / alpha_x, half.dot(normal.cross(tangent)) / alpha_y
    spread = along**2 + across**2 + upright**2
    density = 1 / (math.pi * alpha_x * alpha_y * spread**2)
    squared = alpha_x * alpha_y
    sampled = density * masking(facing_view, squared) / (4 * facing_view)
    return density * _visibility(facing_view, facing_light, squared), sampled


def ggx_round(normal: Vec, view: Vec, light: Vec, alpha: Any) -> tuple[Any, Any]:
    """Isotropic GGX, and the cosine between the view and the half vector."""
    facing_view, facing_light, half, upright = _cosines(normal, view, light)
    squared = alpha * alpha
    density = squared / (math.pi * (upright**2 * (squared - 1) + 1) ** 2)
    return density * _visibility(facing_view, facing_light, squared), half.dot(view)


def _beckmann_shadow(facing: Any, alpha: float) -> Any:
    """Smith's Lambda for Beckmann (Walter et al. 2007, the rational approximation)."""
    c = facing / (alpha * jnp.sqrt(jnp.maximum(1 - facing**2, 1e-6)))
    shadow = (1 - 1.259 * c + 0.396 * c * c) / (3.535 * c + 2.181 * c * c)
    return jnp.where(c < 1.6, shadow, 0.0)


def beckmann(normal: Vec, view: Vec, light: Vec, alpha: float) -> Any:
    """Beckmann's microfacets."""
    facing_view, facing_light, _, upright = _cosines(normal, view, light)
    squared = upright**2
    density = jnp.exp((squared - 1) / (squared * alpha**2)) / (math.pi * alpha**2 * squared**2)
    shadow = _beckmann_shadow(facing_view, alpha) + _beckmann_shadow(facing_light, alpha)
    return density / ((1 + shadow) * 4 * facing_view * facing_light)


def beckmann_masking(facing_view: Any, facing_light: Any, alpha: float) -> Any:
    """The share of light from a visible Beckmann facet that other facets let through."""
    view, light = (_beckmann_shadow(f, alpha) for f in (facing_view, facing_light))
    return (1 + view) / (1 + view + light)


def velvet(normal: Vec, view: Vec, light: Vec, sigma: float) -> Any:
    """Ashikhmin's velvet (Ashikhmin et al., "A microfacet-based BRDF generator", 2000)."""
    facing_view, facing_light, half, upright = _cosines(normal, view, light)
    tilt = jnp.maximum(1 - upright**2, 1e-4)
    density = jnp.exp(-(upright**2) / (tilt * sigma**2)) / (math.pi * sigma**2 * tilt**2)
    between = jnp.maximum(half.dot(view), _GRAZING)
    shadow = 2 * upright * jnp.minimum(facing_view, facing_light) / between
    return 0.25 * density * jnp.minimum(1.0, shadow) / (facing_view * facing_light)


def fresnel(facing: Any, ior: float) -> Any:
    """Reflected fraction of unpolarised light at a dielectric."""
    g = jnp.sqrt(ior**2 - 1 + facing**2)
    a, b = (g - facing) / (g + facing), (facing * (g + facing) - 1) / (facing * (g - facing) + 1)
    return 0.5 * a * a * (1 + b * b)


def schlick(facing: Any, straight: float) -> Any:
    """Schlick's approximation of Fresnel's law; `straight` is the reflectance head-on."""
    return straight + (1 - straight) * (1 - jnp.maximum(facing, 0.0)) ** 5
