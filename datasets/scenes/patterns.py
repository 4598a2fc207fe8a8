"""Solid patterns: functions of a point in space, so that no surface needs seams.

A pattern takes points in units of its own cells and how strongly noise bends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from datasets.scenes.ray_casting import Vec


class Texture(NamedTuple):
    """What a pattern says at points: `mix` blends low to high, `accent` blends to the accent."""

    mix: Any
    accent: Any
    height: Any


# ---------------------------------------------------------------- noise
def _hash(x: Any, y: Any, z: Any) -> Any:
    """Uniform numbers in [0, 1) of lattice points (integers held as float)."""
    a, b, c = (jax.lax.bitcast_convert_type(v.astype(jnp.int32), jnp.uint32) for v in (x, y, z))
    h = a * jnp.uint32(0x8DA6B343) ^ b * jnp.uint32(0xD8163841) ^ c * jnp.uint32(0xCB1AB31F)
    h = (h ^ (h >> 15)) * jnp.uint32(0x2C1B3C6D)
    h = (h ^ (h >> 12)) * jnp.uint32(0x297A2D39)
    return ((h ^ (h >> 15)) >> 8).astype(jnp.float32) * 2.0**-24


def _value_noise(p: Vec) -> Any:
    cell = p.map(jnp.floor)
    weight = (p - cell).map(lambda f: f * f * (3 - 2 * f))

    def corners(dx: float, dy: float) -> Any:
        low = _hash(cell.x + dx, cell.y + dy, cell.z)
        return low + weight.z * (_hash(cell.x + dx, cell.y + dy, cell.z + 1) - low)

    near = corners(0, 0) + weight.x * (corners(1, 0) - corners(0, 0))
    far = corners(0, 1) + weight.x * (corners(1, 1) - corners(0, 1))
    return near + weight.y * (far - near)


def _fractal_noise(p: Vec) -> Any:
    """Three octaves in [0, 1], mean 0.5."""
    shift = Vec(17.3, 5.9, 31.7)
    return (
        _value_noise(p) * 4 + _value_noise(p * 2.03 + shift) * 2 + _value_noise(p * 4.11 - shift)
    ) / 7


def _ramp(x: Any, low: float, high: float) -> Any:
    f = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return f * f * (3 - 2 * f)


def _bent(p: Vec, warp: Any) -> Vec:
    """Points pushed about by slow noise."""
    shift = Vec(7.1, 13.7, 3.3)
    push = Vec(_value_noise(p), _value_noise(p + shift), _value_noise(p - shift))
    return p + (push - Vec(0.5, 0.5, 0.5)) * (2 * warp)


def _fraction(x: Any) -> Any:
    return x - jnp.floor(x)


# ---------------------------------------------------------------- patterns
def _clouds(p: Vec, warp: Any) -> Texture:
    value = _ramp(_fractal_noise(_bent(p, warp)), 0.25, 0.75)
    return Texture(value, _ramp(_value_noise(p * 3.1), 0.75, 0.95), value)


def _marble(p: Vec, warp: Any) -> Texture:
    wave = jnp.abs(jnp.sin(math.pi * (p.x + 0.6 * p.y + 0.4 * p.z + warp * _fractal_noise(p))))
    vein = 1 - _ramp(wave, 0.0, 0.25)
    return Texture(_fractal_noise(p * 0.7), vein, -0.3 * vein)


def _wood(p: Vec, warp: Any) -> Texture:
    grain = _value_noise(Vec(p.x * 8, p.y * 8, p.z * 0.5))
    ring = _fraction(jnp.sqrt(p.x**2 + p.y**2 + 1e-9) * 2 + warp * _value_noise(p))
    return Texture(_ramp(ring, 0.0, 0.8), 0.4 * grain, ring + 0.2 * grain)


def _stripes(p: Vec, warp: Any) -> Texture:
    wave = 0.5 + 0.5 * jnp.sin(2 * math.pi * (p.x + 0.5 * p.z + warp * _value_noise(p)))
    return Texture(_ramp(wave, 0.35, 0.65), 0.25 * _value_noise(p * 6), wave)


def _checker(p: Vec, warp: Any) -> Texture:
    bent = _bent(p, warp) + Vec(0.01, 0.01, 0.01)
    parity = jnp.mod(jnp.floor(bent.x) + jnp.floor(bent.y) + jnp.floor(bent.z), 2.0)
    edge = bent.map(lambda v: jnp.abs(_fraction(v) - 0.5))
    groove = _ramp(jnp.maximum(edge.x, jnp.maximum(edge.y, edge.z)), 0.45, 0.5)
    return Texture(parity, 0.3 * _value_noise(p * 5), -groove)


def _bricks(p: Vec, warp: Any) -> Texture:
    bent = _bent(p, warp * 0.2)
    row = jnp.floor(bent.y * 2 + bent.z * 2 + 0.01)
    along = bent.x + 0.5 * jnp.mod(row, 2.0)
    across = jnp.abs(_fraction(bent.y * 2 + bent.z * 2 + 0.01) - 0.5)
    joint = _ramp(jnp.maximum(jnp.abs(_fraction(along) - 0.5), across), 0.43, 0.47)
    tone = _hash(jnp.floor(along), row, jnp.zeros_like(row))
    return Texture(tone, joint, (1 - joint) * (0.8 + 0.2 * _value_noise(p * 6)))


def _cells(p: Vec, warp: Any) -> Texture:
    """Worley's cells: each with a tone of its own, the accent in the seams."""
    bent = _bent(p, warp)
    home = (bent - Vec(0.5, 0.5, 0.5)).map(jnp.floor)
    first = jnp.full(bent.x.shape, 9.0)
    second, tone = first, jnp.zeros_like(first)
    for dx in (0.0, 1.0):
        for dy in (0.0, 1.0):
            for dz in (0.0, 1.0):
                cell = home + Vec(dx, dy, dz)
                seed = _hash(cell.x, cell.y, cell.z)
                jitter = Vec(seed, _fraction(seed * 57.3), _fraction(seed * 113.9))
                offset = cell + jitter * 0.7 + Vec(0.15, 0.15, 0.15) - bent
                squared = offset.dot(offset)
                second = jnp.minimum(second, jnp.maximum(first, squared))
                tone = jnp.where(squared < first, _fraction(seed * 31.7), tone)
                first = jnp.minimum(first, squared)
    gap = jnp.sqrt(second) - jnp.sqrt(first)
    return Texture(tone, 1 - _ramp(gap, 0.03, 0.12), _ramp(gap, 0.0, 0.3))


def _weave(p: Vec, warp: Any) -> Texture:
    bent = _bent(p, warp * 0.3)
    u, v = bent.x + 0.7 * bent.z, bent.y + 0.7 * bent.z
    over = jnp.mod(jnp.floor(u) + jnp.floor(v), 2.0)
    thread = jnp.where(over > 0.5, jnp.sin(math.pi * _fraction(u)), jnp.sin(math.pi * _fraction(v)))
    return Texture(over, 1 - _ramp(thread, 0.1, 0.5), thread)


def _speckle(p: Vec, warp: Any) -> Texture:
    fine, coarse = _value_noise(p * 4), _fractal_noise(p)
    spots = _ramp(_value_noise(p * 2.3), 0.68, 0.74)
    return Texture(_ramp(fine * (1 - warp) + coarse * warp, 0.3, 0.7), spots, 0.3 * fine)


def _rust(p: Vec, warp: Any) -> Texture:
    patch = _ramp(_fractal_noise(_bent(p, warp)), 0.46, 0.56)
    return Texture(_value_noise(p * 4), patch, patch * (0.6 + 0.4 * _value_noise(p * 7)))


def _blades(p: Vec, warp: Any) -> Texture:
    """Short strokes that lean every way: grass, fur, straw."""
    angle = 2 * math.pi * _value_noise(p * 0.8) * warp
    along, across = jnp.cos(angle), jnp.sin(angle)
    u, v = along * p.x + across * p.y, along * p.y - across * p.x
    stroke = _value_noise(Vec(u * 2, v * 12, p.z * 6))
    return Texture(stroke, _ramp(_value_noise(p * 0.9), 0.5, 0.9), stroke)


def _dots(p: Vec, warp: Any) -> Texture:
    bent = _bent(p, warp)
    local = bent.map(lambda v: _fraction(v) - 0.5)
    cell = bent.map(jnp.floor)
    size = 0.3 + 0.12 * _hash(cell.x, cell.y, cell.z)
    distance = jnp.sqrt(local.dot(local))
    spot = 1 - _ramp(distance - size, -0.04, 0.04)
    return Texture(_hash(cell.x, cell.z, cell.y), 1 - spot, spot)


def _plain(p: Vec, warp: Any) -> Texture:
    zero = jnp.zeros_like(p.x) * warp
    return Texture(zero, zero, zero)


PATTERNS: dict[str, Callable[[Vec, Any], Texture]] = {
    "clouds": _clouds, "marble": _marble, "wood": _wood, "stripes": _stripes,
    "checker": _checker, "bricks": _bricks, "cells": _cells, "weave": _weave,
    "speckle": _speckle, "rust": _rust, "blades": _blades, "dots": _dots, "plain": _plain,
}  # fmt: skip
