"""From ray samples to an 8-bit picture: where samples lie, Cycles' pixel filter, sRGB.

A pixel has 2x2 samples. Cycles weighs samples with a Blackman-Harris window three pixels wide,
so neighbouring pixels share them: 36 samples shape each pixel although only 4 are drawn for it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from datasets.scenes.ray_casting import Vec

SAMPLES = 2  # per pixel and axis
MARGIN = 2  # samples drawn beyond each border for the filter
FILTER_WIDTH = 3.0  # pixels
CHUNK = 2048  # samples of objects shaded at a time


class Window(NamedTuple):
    """A part of the 240x320 picture, in its pixels; `bottom` and `right` are exclusive."""

    top: float = 0
    left: float = 0
    bottom: float = 240
    right: float = 320


class Samples(NamedTuple):
    """Flat arrays of the samples: position in 240x320 pixels, and in the sample grid."""

    column: Any
    row: Any
    grid_column: Any
    grid_row: Any


def grid_shape(height: int, width: int) -> tuple[int, int]:
    return SAMPLES * height + 2 * MARGIN, SAMPLES * width + 2 * MARGIN


def sample_positions(height: int, width: int, window: Window) -> Samples:
    """Where the samples of a height x width picture of `window` lie, margins included."""
    rows, columns = grid_shape(height, width)
    grid_row, grid_column = jnp.divmod(jnp.arange(rows * columns), columns)
    y = (grid_row - MARGIN + 0.5) / (SAMPLES * height)
    x = (grid_column - MARGIN + 0.5) / (SAMPLES * width)
    row = window.top + y * (window.bottom - window.top)
    column = window.left + x * (window.right - window.left)
    return Samples(column, row, grid_column.astype(jnp.float32), grid_row.astype(jnp.float32))


def pixel_centres(height: int, width: int, window: Window) -> tuple[Any, Any]:
    """(column, row) of the pixels' centres, flat."""
    row, column = jnp.divmod(jnp.arange(height * width), width)
    y, x = (row + 0.5) / height, (column + 0.5) / width
    return (
        window.left + x * (window.right - window.left),
        window.top + y * (window.bottom - window.top),
    )


def _filter_taps() -> np.ndarray:
    offsets = (np.arange(2 * MARGIN + SAMPLES) - MARGIN - 0.5) / SAMPLES
    phase = 2 * math.pi * (offsets / FILTER_WIDTH + 0.5)
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    taps = sum(a * np.cos(k * phase) for k, a in enumerate(terms))
    return taps / taps.sum()


def develop(radiance: Vec, height: int, width: int) -> jax.Array:
    """Linear samples -> sRGB picture, uint8 [height, width, 3]."""
    rows, columns = grid_shape(height, width)
    taps = _filter_taps()

    def filtered(channel: Any) -> Any:
        grid = channel.reshape(rows, columns)
        tall = sum(w * grid[k::SAMPLES][:height] for k, w in enumerate(taps))
        return sum(w * tall[:, k::SAMPLES][:, :width] for k, w in enumerate(taps))

    linear = jnp.stack([filtered(c) for c in (radiance.x, radiance.y, radiance.z)], axis=-1)
    linear = jnp.clip(linear, 0.0, 1.0)
    curved = 1.055 * jnp.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055
    encoded = jnp.where(linear <= 0.0031308, 12.92 * linear, curved)
    return jnp.round(encoded * 255).astype(jnp.uint8)


def shade_where(mask: Any, canvas: Vec, shade: Callable[[Any], Vec]) -> Vec:
    """Overwrites the samples under `mask` with shade(indices), a chunk of them at a time.

    Objects cover a fifth of a picture, so this costs a fifth of shading every sample as an object.
    """
    total = mask.shape[0]
    chunk = min(CHUNK, total)
    padded = -(-total // chunk) * chunk
    (order,) = jnp.nonzero(mask, size=padded, fill_value=total)
    count = mask.sum()

    def step(carry: tuple[Any, Vec]) -> tuple[Any, Vec]:
        start, colors = carry
        ids = jax.lax.dynamic_slice(order, (start,), (chunk,))
        new = shade(jnp.minimum(ids, total - 1))
        put = functools.partial(_put, ids)
        return start + chunk, jax.tree.map(put, colors, new)

    return jax.lax.while_loop(lambda c: c[0] < count, step, (jnp.int32(0), canvas))[1]


def _put(ids: Any, old: Any, new: Any) -> Any:
    return old.at[ids].set(new, mode="drop")
