"""Label maps of anyone's files: .npz, folders of PNGs, COCO's JSON.

A label map is `[H, W]` integers, 0 where nobody says more: the background. Every reader gives maps
by name; predictions and truths are paired by it.
"""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from akorn_jax.errors import UserError

Array = np.ndarray

KEYS = ("labels", "segmentation", "masks", "arr_0")  # of an .npz, the first that there is


def read(path: Path) -> Mapping[str, Array]:
    """The label maps of a file or folder by name.

    Args:
        path: an .npz with integers `[N, H, W]` (or `[N, T, H, W]` of videos, or masks
            `[N, K, H, W]` of floating point, of which the largest counts), named by their place;
            a folder of PNGs (palette or grey up to 16 bits), named by their path without ending; a
            COCO JSON of instances, named by the file names of its images, without ending.

    Raises:
        UserError: it cannot be read; the line names the file.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder.")
    readers = {".npz": _npz, ".json": _coco, ".png": lambda p: {p.stem: png(p)}}
    if path.suffix not in readers:
        raise UserError(f"{path}: is neither a folder nor .npz, .json or .png.")
    return readers[path.suffix](path)


def png(path: Path) -> Array:
    """The ids of a PNG: palette indices, or grey levels.

    Raises:
        UserError: it is unreadable, or in colour, which has no ids.
    """
    with _naming(path), Image.open(path) as picture:
        if picture.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
            raise ValueError(f"mode {picture.mode} has no ids; save palette or grey label maps")
        if getattr(picture, "n_frames", 1) > 1:
            raise ValueError("is animated")
        return np.asarray(picture).astype(np.int64)


def _folder(path: Path) -> dict[str, Array]:
    files = sorted(p for p in path.rglob("*.png") if p.is_file())
    if not files:
        raise UserError(f"{path}: holds no .png.")
    return {str(file.relative_to(path).with_suffix("")): png(file) for file in files}


def _npz(path: Path) -> dict[str, Array]:
    with _naming(path), np.load(path, allow_pickle=False) as arrays:
        name = next((key for key in KEYS if key in arrays.files), None)
        if name is None:
            raise ValueError(f"has none of {', '.join(KEYS)}; it has {', '.join(arrays.files)}")
        maps = arrays[name]
        if np.issubdtype(maps.dtype, np.floating) and maps.ndim == 4:
            maps = maps.argmax(1)
        if not np.issubdtype(maps.dtype, np.integer) or maps.ndim not in (3, 4):
            raise ValueError(f"{name} is {maps.dtype}{list(maps.shape)}, not integers [N, H, W]")
        return {f"{i:06d}": m.astype(np.int64) for i, m in enumerate(maps)}


def _coco(path: Path) -> dict[str, Array]:
    with _naming(path):
        content = json.loads(path.read_bytes())
        images = {image["id"]: image for image in content["images"]}
        maps = {
            key: np.zeros((int(image["height"]), int(image["width"])), np.int64)
            for key, image in images.items()
        }
        counts = dict.fromkeys(images, 0)
        for annotation in content["annotations"]:
            key = annotation["image_id"]
            if key not in images:
                raise ValueError(f"annotation {annotation.get('id')} is of missing image {key}")
            counts[key] += 1
            maps[key][coco_mask(annotation["segmentation"], maps[key].shape)] = counts[key]
        return {str(Path(images[key]["file_name"]).with_suffix("")): m for key, m in maps.items()}


def coco_mask(segmentation: Any, shape: tuple[int, int]) -> Array:
    """A COCO segmentation, polygons or run lengths (plain or compressed), as bool `[H, W]`."""
    height, width = shape
    if isinstance(segmentation, list):
        canvas = Image.new("1", (width, height))
        for polygon in segmentation:
            ImageDraw.Draw(canvas).polygon([float(x) for x in polygon], fill=1)
        return np.asarray(canvas)
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = _decompress(counts)
    if tuple(segmentation["size"]) != shape or sum(counts) != height * width:
        raise ValueError(f"run lengths of {segmentation['size']} in an image of {list(shape)}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T  # columns after each other


def run_lengths(mask: Array) -> dict[str, Any]:
    """A mask `[H, W]` as COCO's plain run lengths; the inverse of `coco_mask`."""
    flat = np.asarray(mask, bool).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    counts = counts if flat.size and not flat[0] else np.concatenate([[0], counts])
    return {"size": list(mask.shape), "counts": counts.tolist()}


def _decompress(text: str) -> list[int]:
    """COCO's string of run lengths: six bits per character, differences of every other length."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} in run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what libraries raise of a bad file into one line with its name."""
    broken = (
        *(OSError, EOFError, SyntaxError, ValueError, KeyError, TypeError, IndexError),
        *(AttributeError, OverflowError, RecursionError, MemoryError, zipfile.BadZipFile),
        Image.DecompressionBombError,
    )
    try:
        yield
    except broken as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{path}: cannot be read ({reason}).") from error
