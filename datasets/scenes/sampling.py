"""From ray samples to an 8-bit picture: where samples lie, Cycles' pixel filter, sRGB.

A pixel has 2x2 samples. Cycles weighs samples with a Blackman-Harris window three pixels wide,
so neighbouring pixels share them: 36 samples shape each pixel although only 4 are drawn for it.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from datasets.scenes import random
from datasets.scenes.ray_casting import Vec

SAMPLES = 2  # per pixel and axis
MARGIN = 2  # samples drawn beyond each border for the filter
FILTER_WIDTH = 3.0  # pixels
TILE = 32, 64  # samples whose places are close, shaded one after another
CHUNK = TILE[0] * TILE[1]  # samples shaded at a time
SIDE_BY_SIDE = 8  # scenes that an accelerator draws at a time


class Window(NamedTuple):
    """A part of the 240x320 picture, in its pixels; `bottom` and `right` are exclusive."""

    top: float = 0
    left: float = 0
    bottom: float = 240
    right: float = 320


def _grid(height: int, width: int, window: Window, margin: int) -> tuple[Any, Any]:
    y = (jnp.arange(-margin, height + margin) + 0.5) / height
    x = (jnp.arange(-margin, width + margin) + 0.5) / width
    return (
        window.left + x * (window.right - window.left),
        window.top + y * (window.bottom - window.top),
    )


def pixel_centres(height: int, width: int, window: Window) -> tuple[Any, Any]:
    """Columns [width] and rows [height] of the pixels' centres, in 240x320 pixels."""
    return _grid(height, width, window, 0)


def sample_positions(height: int, width: int, window: Window) -> tuple[Any, Any]:
    """Columns and rows of a height x width picture's samples, margins included."""
    return _grid(SAMPLES * height, SAMPLES * width, window, MARGIN)


def everywhere(columns: Any, rows: Any) -> tuple[Any, Any]:
    """(column, row) of each place of a grid, flat [rows * columns]."""
    column, row = jnp.meshgrid(columns, rows)
    return column.ravel(), row.ravel()


def _filter_taps() -> np.ndarray:
    offsets = (np.arange(2 * MARGIN + SAMPLES) - MARGIN - 0.5) / SAMPLES
    phase = 2 * math.pi * (offsets / FILTER_WIDTH + 0.5)
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    taps = sum(a * np.cos(k * phase) for k, a in enumerate(terms))
    return taps / taps.sum()


def tonemap(radiance: Vec, height: int, width: int) -> jax.Array:
    """Linear samples -> sRGB picture, uint8 [height, width, 3]."""
    rows, columns = SAMPLES * height + 2 * MARGIN, SAMPLES * width + 2 * MARGIN
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


class Groups(NamedTuple):
    """Samples of a picture, group after group and tile by tile in each.

    `order` holds their indices, and a chunk more; group g is `order[first[g] : first[g + 1]]`.
    """

    order: Any
    first: Any


def grouped(group: Any, num_groups: int, height: int, width: int) -> Groups:
    """Sorts the samples by their group, int32 [S] in [0, num_groups)."""
    rows, columns = SAMPLES * height + 2 * MARGIN, SAMPLES * width + 2 * MARGIN
    row, column = np.divmod(np.arange(rows * columns), columns)
    tiled = jnp.asarray(np.lexsort((column // TILE[1], row // TILE[0])), jnp.int32)
    # One number for both, so that nothing has to be carried along.
    key = jnp.sort(group[tiled] * len(tiled) + jnp.arange(len(tiled)))
    first = jnp.searchsorted(key, jnp.arange(num_groups + 1) * len(tiled))
    return Groups(jnp.pad(tiled[key % len(tiled)], (0, CHUNK)), first)


def shade_group(groups: Groups, group: Any, canvas: Vec, shade: Callable[[Any], Vec]) -> Vec:
    """Overwrites a group's samples with shade(indices), a chunk of neighbours at a time.

    So a sample costs what its own material does.
    """
    stop = groups.first[group + 1]

    def step(carry: tuple[Any, Vec]) -> tuple[Any, Vec]:
        start, colors = carry
        ids = jax.lax.dynamic_slice(groups.order, (start,), (CHUNK,))
        mine = start + jnp.arange(CHUNK) < stop
        new = shade(jnp.where(mine, ids, ids[0]))
        put = functools.partial(_put, jnp.where(mine, ids, len(groups.order)))
        return start + CHUNK, jax.tree.map(put, colors, new)

    return jax.lax.while_loop(lambda c: c[0] < stop, step, (groups.first[group], canvas))[1]


def _put(ids: Any, old: Any, new: Any) -> Any:
    return old.at[ids].set(new, mode="drop")


Drawn = tuple[jax.Array, jax.Array]  # image uint8 [H, W, 3], labels uint8 [H, W]


def _group_size() -> int:
    # Side by side, a scene pays for its neighbours' branches; a CPU gains nothing from that.
    return 1 if jax.default_backend() == "cpu" else SIDE_BY_SIDE


def draw_group(draw_one: Callable[..., Drawn], arguments: Any) -> Drawn:
    """Draws the scenes of one call, side by side, inside a jitted function.

    Args:
      draw_one: from one scene's arguments to its picture and labels.
      arguments: a tuple of pytrees whose leaves have a leading axis, that of the scenes.
    """
    if _group_size() > 1:
        return jax.vmap(draw_one)(*arguments)
    # Not mapped over, branches stay branches.
    return jax.tree.map(lambda a: a[None], draw_one(*jax.tree.map(lambda a: a[0], arguments)))


def draw_all(draw: Callable[..., Drawn], scenes: list[Any], height: int, width: int) -> Any:
    """Draws any number of packed scenes with `draw(*stacked arguments)`.

    Every call draws equally many, so a picture does not depend on its batch.

    Returns:
      images uint8 [N, height, width, 3] and labels uint8 [N, height, width].
    """
    images = np.empty((len(scenes), height, width, 3), np.uint8)
    labels = np.empty((len(scenes), height, width), np.uint8)
    size = _group_size()

    def draw_part(start: int) -> None:
        part = scenes[start : start + size]
        full = part + part[-1:] * (size - len(part))
        done = draw(*jax.tree.map(lambda *leaves: np.stack(leaves), *full))
        images[start : start + len(part)] = np.asarray(done[0])[: len(part)]
        labels[start : start + len(part)] = np.asarray(done[1])[: len(part)]

    on_all_cores(draw_part, range(0, len(scenes), size))
    return images, labels


def sample_and_draw(
    sample: Callable[[int], dict[str, Any]], render: Callable[..., Any], indices: Iterable[int]
) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Scenes `sample(index)` and their pictures and labels by `render(scenes, seeds=indices)`.

    A core draws what it sampled before it samples more, so one core's Python runs while the others
    draw; all at once, cores that sample would wait for the interpreter's lock most of the time.
    """
    indices, size = [int(index) for index in indices], _group_size()

    def work(start: int) -> tuple[Any, ...]:
        part = indices[start : start + size]
        scenes = [sample(index) for index in part]
        return scenes, *render(scenes, seeds=part)

    parts = on_all_cores(work, range(0, max(len(indices), 1), size))
    scenes, images, labels = zip(*parts, strict=True)
    return list(itertools.chain(*scenes)), np.concatenate(images), np.concatenate(labels)


def on_all_cores(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """`function` of each item; one scene's arrays are too short to occupy several cores."""
    if len(items) == 1:
        return [function(items[0])]
    with ThreadPoolExecutor(_cores()) as pool:
        return list(pool.map(function, items))


def noise_start(seed: int) -> np.ndarray:
    """Where in the endless dither pattern a picture starts: (columns, rows), float32 [2]."""
    return np.floor(random.uniform(int(seed), np.arange(2)) * 4096).astype(np.float32)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
