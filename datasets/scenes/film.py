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

from datasets.scenes import random
from datasets.scenes.ray_casting import Vec

SAMPLES = 2  # per pixel and axis
MARGIN = 2  # samples drawn beyond each border for the filter
FILTER_WIDTH = 3.0  # pixels
CHUNK = 4096  # samples of objects shaded at a time
SCENES_PER_CALL = 8  # one program for all batch sizes: a picture does not depend on its batch


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


Drawn = tuple[jax.Array, jax.Array]  # image uint8 [H, W, 3], labels uint8 [H, W]


def draw_group(
    draw_one: Callable[..., Drawn], count: Any, arguments: Any, height: int, width: int
) -> Drawn:
    """Draws the first `count` of SCENES_PER_CALL scenes, inside a jitted function.

    Args:
      draw_one: from one scene's arguments to its picture and labels.
      count: how many of the scenes are wanted.
      arguments: a tuple of pytrees whose leaves have a leading axis of SCENES_PER_CALL.
      height: of a picture.
      width: of a picture.
    """
    # Side by side, a scene pays for its neighbours' branches; a CPU gains nothing from that.
    together = 1 if jax.default_backend() == "cpu" else SCENES_PER_CALL

    def several(part: Any) -> Drawn:
        if together > 1:
            return jax.vmap(draw_one)(*part)
        return jax.tree.map(lambda a: a[None], draw_one(*jax.tree.map(lambda a: a[0], part)))

    def step(group: Any, pictures: Drawn) -> Drawn:
        start = group * together
        take = functools.partial(
            jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=together
        )
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
        return jax.tree.map(put, pictures, several(jax.tree.map(take, arguments)))

    labels = jnp.zeros((SCENES_PER_CALL, height, width), jnp.uint8)
    images = jnp.zeros((*labels.shape, 3), jnp.uint8)
    return jax.lax.fori_loop(0, -(-count // together), step, (images, labels))


def draw_all(draw: Callable[..., Drawn], scenes: list[Any], height: int, width: int) -> Any:
    """Draws any number of packed scenes with `draw(count, *stacked arguments)`.

    Returns:
      images uint8 [N, height, width, 3] and labels uint8 [N, height, width].
    """
    images = np.empty((len(scenes), height, width, 3), np.uint8)
    labels = np.empty((len(scenes), height, width), np.uint8)
    for start in range(0, len(scenes), SCENES_PER_CALL):
        part = scenes[start : start + SCENES_PER_CALL]
        full = part + part[-1:] * (SCENES_PER_CALL - len(part))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *full)
        done = draw(np.int32(len(part)), *stacked)
        images[start : start + len(part)] = np.asarray(done[0])[: len(part)]
        labels[start : start + len(part)] = np.asarray(done[1])[: len(part)]
    return images, labels


def noise_start(seed: int) -> np.ndarray:
    """Where in the endless dither pattern a picture starts: (columns, rows), float32 [2]."""
    return np.floor(random.uniform(int(seed), np.arange(2)) * 4096).astype(np.float32)
