"""Label maps of anyone's files: .npz, folders of PNGs, COCO's JSON.

A label map is `[H, W]` integers, 0 where nobody says more: the background. Every reader gives maps
by name; predictions and truths are paired by it. Maps are decoded when they are asked for.

Worker processes import this module, which should not import JAX.
"""

import abc
import contextlib
import dataclasses
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from akorn_jax.errors import UserError

Array = np.ndarray

KEYS = ("labels", "segmentation", "masks", "arr_0")  # of an .npz, the first that there is
VOID = -1  # pixels of crowds, which count for nothing


class Source(abc.ABC):
    """Where a label map is; sent to the process that needs it."""

    @abc.abstractmethod
    def load(self) -> Array:
        """`[H, W]` integers, of a video `[T, H, W]`.

        Raises:
            UserError: it cannot be read; the line names the file.
        """


@dataclasses.dataclass(frozen=True)
class Stored(Source):
    """A map in memory."""

    labels: Array

    def load(self) -> Array:
        """See the base class."""
        return self.labels


@dataclasses.dataclass(frozen=True)
class Png(Source):
    """A PNG: palette indices, or grey levels of up to 16 bits."""

    path: Path

    def load(self) -> Array:
        """See the base class; colours have no ids."""
        return png(self.path)


@dataclasses.dataclass(frozen=True)
class CocoImage(Source):
    """An image of a COCO file; where objects overlap the later one is in front."""

    path: Path
    name: str
    shape: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]

    def load(self) -> Array:
        """See the base class; ids are 1, 2, ... in the order of the file, crowds `VOID`."""
        with _naming(self.path, f" at {self.name}"):
            labels, count = np.zeros(self.shape, np.int64), 0
            for annotation in self.annotations:
                mask = coco_mask(annotation["segmentation"], self.shape)
                if annotation.get("iscrowd", 0):
                    labels[mask & (labels == 0)] = VOID
                else:
                    count += 1
                    labels[mask] = count
            return labels


@dataclasses.dataclass(frozen=True)
class Frames(Source):
    """A video whose frames are apart."""

    frames: Sequence[Source]

    def load(self) -> Array:
        """See the base class."""
        frames = [frame.load() for frame in self.frames]
        if len({frame.shape for frame in frames}) > 1:
            raise UserError(f"{self.frames[0]}: the frames of its video differ in size.")
        return np.stack(frames)


class Maps(Mapping[str, Array]):
    """Label maps by name, decoded when they are asked for."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)

    def __getitem__(self, name: str) -> Array:
        return self.sources[name].load()

    def __contains__(self, name: object) -> bool:
        return name in self.sources

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def videos(self) -> "Maps":
        """The maps of one folder as the frames of one video, in the order of their names."""
        found: dict[str, list[Source]] = {}
        for name in sorted(self.sources):
            found.setdefault(str(Path(name).parent), []).append(self.sources[name])
        return Maps({name: Frames(tuple(frames)) for name, frames in found.items()})


def read(path: Path) -> Maps:
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
    readers = {".npz": _npz, ".json": _coco, ".png": lambda p: Maps({p.stem: Png(p)})}
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


def _folder(path: Path) -> Maps:
    files = sorted(p for p in path.rglob("*.png") if p.is_file())
    if not files:
        raise UserError(f"{path}: holds no .png.")
    return Maps({str(file.relative_to(path).with_suffix("")): Png(file) for file in files})


def _npz(path: Path) -> Maps:
    with _naming(path), np.load(path, allow_pickle=False) as arrays:
        name = next((key for key in KEYS if key in arrays.files), None)
        if name is None:
            raise ValueError(f"has none of {', '.join(KEYS)}; it has {', '.join(arrays.files)}")
        maps = arrays[name]
        if np.issubdtype(maps.dtype, np.floating) and maps.ndim == 4:
            maps = maps.argmax(1)
        if not np.issubdtype(maps.dtype, np.integer) or maps.ndim not in (3, 4):
            raise ValueError(f"{name} is {maps.dtype}{list(maps.shape)}, not integers [N, H, W]")
        return Maps({f"{i:06d}": Stored(labels) for i, labels in enumerate(maps)})


def _coco(path: Path) -> Maps:
    with _naming(path):
        content = json.loads(path.read_bytes())
        images = {image["id"]: image for image in content["images"]}
        annotations: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in images}
        for annotation in content["annotations"]:
            key = annotation["image_id"]
            if key not in images:
                raise ValueError(f"annotation {annotation.get('id')} is of missing image {key}")
            annotations[key].append(annotation)
        found: dict[str, Source] = {}
        for key, image in images.items():
            name = str(Path(image["file_name"]).with_suffix(""))
            shape = int(image["height"]), int(image["width"])
            if not 0 < shape[0] * shape[1] <= 2 * Image.MAX_IMAGE_PIXELS or min(shape) < 1:
                raise ValueError(f"image {name} is of size {list(shape)}")
            if name in found:
                raise ValueError(f"two images are named {name}")
            found[name] = CocoImage(path, name, shape, annotations[key])
        return Maps(found)


def coco_mask(segmentation: Any, shape: tuple[int, int]) -> Array:
    """A COCO segmentation, polygons or run lengths (plain or compressed), as bool `[H, W]`.

    Raises:
        ValueError, KeyError, TypeError: it is none, or of another size.
    """
    height, width = shape
    if isinstance(segmentation, list):
        from pycocotools import mask as pycoco_mask

        for polygon in segmentation:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)
            size = np.array([width, height])
            # The rasteriser's memory grows with the outline, so points far out are refused.
            if len(points) < 3 or not ((points >= -size) & (points <= 2 * size)).all():
                raise ValueError("a polygon has fewer than three points, or leaves the image")
        if not segmentation:
            raise ValueError("an annotation has no mask")
        shapes = pycoco_mask.frPyObjects(segmentation, height, width)
        return pycoco_mask.decode(pycoco_mask.merge(shapes)).astype(bool)
    counts = segmentation["counts"]
    runs = np.asarray(_decompress(counts) if isinstance(counts, str) else counts)
    if not np.issubdtype(runs.dtype, np.integer) or (runs < 0).any():
        raise ValueError("run lengths are not counts")
    if list(segmentation["size"]) != [height, width] or runs.sum() != height * width:
        raise ValueError(f"run lengths do not fill {height}x{width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T  # columns one after another


def _decompress(text: str) -> list[int]:
    """COCO's string of run lengths: five bits a character, from the third on as differences.

    pycocotools reads beyond its memory where the lengths do not fill the image.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
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
def _naming(path: Path, where: str = "") -> Iterator[None]:
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
        raise UserError(f"{path}{where}: cannot be read ({reason}).") from error
