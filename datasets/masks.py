"""The true segments of a folder's pictures, where it has any.

masks/NAME.png    a label map, grey up to 16 bits or palette, of NAME.jpg; 0 is the background,
                  and in a palette 255 counts for nothing, as in Pascal VOC
masks/NAME/*.png  one file an object
*.json            in COCO's format of instances, beside the pictures, in masks/ or, as
                  instances*.json, in annotations/; crowds count for nothing
"""

import abc
import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import coco, pictures
from datasets.errors import DatasetError

Array = np.ndarray

FOLDER = "masks"
MAX_OBJECTS = 32  # that a record has room for
VOID = 255  # pixels that belong to nobody


class Masks(abc.ABC):
    """The masks of a folder."""

    @abc.abstractmethod
    def labels(self, path: Path, size: tuple[int, int]) -> Array:
        """The label map `[H, W]` uint8 of a picture of (width, height): 0, 1, ... and `VOID`.

        Raises:
          DatasetError: there is none, it does not fit the picture, or has too many objects.
        """


@dataclasses.dataclass(frozen=True)
class LabelMaps(Masks):
    """PNGs below `folder/masks`: a label map, or a folder with one file an object."""

    folder: Path

    def labels(self, path: Path, size: tuple[int, int]) -> Array:
        """See the base class; ids become 1, 2, ... in their order."""
        stem = self.folder / FOLDER / path.relative_to(self.folder).with_suffix("")
        file = stem.with_name(f"{stem.name}.png")
        if file.is_file():
            return _numbered(_ids(file, size), file)
        if not stem.is_dir():
            raise DatasetError(f"{path}: has no mask; neither {file} nor {stem} is there")
        labels = np.zeros(size[::-1], np.int64)
        for number, mask in enumerate(sorted(stem.glob("*.png")), 1):
            labels[_ids(mask, size) > 0] = number
        return _numbered(labels, stem)


@dataclasses.dataclass(frozen=True)
class CocoMasks(Masks):
    """Masks of COCO files; where objects overlap the later one is in front."""

    found: coco.Coco

    def labels(self, path: Path, size: tuple[int, int]) -> Array:
        """See the base class."""
        labels = np.zeros(size[::-1], np.int64)
        number = 0
        for region, is_crowd in self.found.objects(path, *size[::-1]):
            number += not is_crowd
            labels[region & (labels <= 0) if is_crowd else region] = -1 if is_crowd else number
        return _numbered(labels, self.found.sources[path])


def files(folder: Path) -> list[Path]:
    """The files that hold the masks of a folder, sorted; none where it has no masks.

    Raises:
      DatasetError: they are of two kinds, or a JSON cannot be read.
    """
    maps = [path for path in (folder / FOLDER).rglob("*.png") if path.is_file()]
    lists = [
        path
        for pattern in ("*.json", f"{FOLDER}/*.json", "annotations/instances*.json")
        for path in folder.glob(pattern)
        if path.is_file() and coco.is_coco(path)
    ]
    if maps and lists:
        raise DatasetError(
            f"{folder}: has masks as {FOLDER}/*.png and as {lists[0].name}; remove one kind"
        )
    if (folder / FOLDER).is_dir() and not maps and not lists:
        raise DatasetError(f"{folder / FOLDER}: holds neither .png nor COCO's .json; remove it")
    return sorted([*maps, *lists])


def read(folder: Path, found: Collection[Path], *, skip_bad: bool = False) -> Masks | None:
    """The masks of the pictures of a folder; None where it has none.

    Raises:
      DatasetError: see `files` and `coco.read`.
    """
    paths = files(folder)
    if not paths:
        return None
    if paths[0].suffix == ".png":
        return LabelMaps(folder)
    return CocoMasks(coco.read(paths, folder, found, skip_bad=skip_bad))


def _ids(path: Path, size: tuple[int, int]) -> Array:
    """The ids of a PNG, -1 where nobody counts."""
    with pictures.naming(path, "a mask"), Image.open(path) as picture:
        pictures.refuse_animation(picture)
        if picture.mode not in ("P", "L", "1", "I", "I;16"):
            raise ValueError(f"mode {picture.mode} has no ids; save a palette or grey map")
        if picture.size != size:
            raise ValueError(f"it is {picture.size}, the picture {size} as its EXIF turns it")
        ids = np.asarray(picture).astype(np.int64)
        return np.where(ids == VOID, -1, ids) if picture.mode == "P" else ids


def _numbered(labels: Array, path: Path) -> Array:
    """Ids as 0, 1, 2, ... in their order, and -1 as `VOID`."""
    found = np.unique(labels[labels > 0])
    if len(found) > MAX_OBJECTS:
        raise DatasetError(f"{path}: has {len(found)} objects, at most {MAX_OBJECTS} fit")
    numbers = np.searchsorted(found, labels) + 1
    return np.where(labels > 0, numbers, np.where(labels < 0, VOID, 0)).astype(np.uint8)
