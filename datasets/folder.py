"""Anyone's pictures: a folder is a dataset.

`folder/<key>` has all pictures below a folder (`datasets/pictures.py` says which), cut to the
wanted rectangle or to the middle square and scaled to the wanted side. Masks are optional
(`datasets/masks.py` says where they may be). Pictures are split by a hash of their path below the
folder: 80 % train, 10 % validation, 10 % test, so they stay where they are when others come.

The key holds a digest of all names and contents (`key_of`): a folder that has changed is another
dataset and is prepared, one that was moved or touched is not prepared again.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image, ImageOps

from datasets import masks, pictures
from datasets.builder import MultiObjectBuilder, Variant
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

SPLITS = {"train": range(80), "validation": range(80, 90), "test": range(90, 100)}  # % of hashes
Crop = tuple[int, int, int, int]  # top, left, bottom, right, in pixels


class Key(NamedTuple):
    """What the name of a prepared folder says; `str` of it is the name.

    Attributes:
      folder: its own name, for people.
      digest: of all names and contents.
      size: side of the prepared pictures.
      crop: what was cut out before; None is the middle square.
      has_masks: whether there are masks.
    """

    folder: str
    digest: str
    size: int
    crop: Crop | None
    has_masks: bool

    def __str__(self) -> str:
        crop = f"_crop{'-'.join(map(str, self.crop))}" if self.crop else ""
        return f"{self.folder}-{self.digest}{crop}_{self.size}{'_masks' * self.has_masks}"

    @classmethod
    def parse(cls, name: str) -> "Key":
        """The key of a name.

        Raises:
          DatasetError: it is none.
        """
        pattern = r"(.+)-([0-9a-f]{16})(?:_crop(\d+)-(\d+)-(\d+)-(\d+))?_([1-9]\d*)(_masks)?"
        found = re.fullmatch(pattern, name)
        if not found:
            raise DatasetError(
                f"dataset='folder/{name}': set config.data.name=folder, config.data.raw_dir to the "
                "folder and config.data.size to the side of the pictures"
            )
        folder, digest, *crop, size, has_masks = found.groups()
        box = None if crop[0] is None else tuple(map(int, crop))
        return cls(folder, digest, int(size), box, has_masks is not None)


class Folder(MultiObjectBuilder):
    """Pictures of a folder, with masks where there are any."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = ()  # made for each folder by `variant`

    @tfds.core.utils.classproperty
    @classmethod
    def builder_configs(cls) -> dict[str, Variant]:
        """By name; TFDS's own would not see those that are made later."""
        return {variant.name: variant for variant in cls.BUILDER_CONFIGS}

    @classmethod
    def variant(cls, name: str) -> Variant:
        """The config of a key.

        Raises:
          DatasetError: it is no key.
        """
        key = Key.parse(name)
        entities = masks.MAX_OBJECTS + 1
        schema = Schema(
            name="folder",
            image=(key.size, key.size, 3),
            num_entities=entities,
            ignore_ids=(masks.VOID,) if key.has_masks else (),
            attributes=(("visibility", Field((entities,), "float32")),),
        )
        return Variant(name=name, description="Pictures of a folder.", schema=schema)

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record, without masks where the folder has none."""
        fields = dict(super().features())
        if not Key.parse(self.builder_config.name).has_masks:
            del fields["segmentation"], fields["visibility"]
        return tfds.features.FeaturesDict(fields)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        del dl_manager
        folder, key = self.source.raw_dir, Key.parse(self.builder_config.name)
        if folder is None:
            raise DatasetError("folder: set config.data.raw_dir to the folder of the pictures")
        found = pictures.find(folder, without=masks.FOLDER)
        if digest(folder, found) != key.digest:
            raise DatasetError(
                f"{folder}: has changed since folder/{key} was made of it; restore it, or start "
                "anew with config.data.name=folder"
            )
        reader = _Reader(folder, key, masks.read(folder, found, skip_bad=self.source.skip_bad))
        found = found[: self.source.max_records]
        usable = (
            [path for path in found if reader.can_read(path)] if self.source.skip_bad else found
        )
        if not usable:
            raise DatasetError(f"{folder}: none of its {len(found)} pictures can be read")
        origin = {
            "name": folder.name,
            "asked": self.source.max_records,
            "skipped": len(found) - len(usable),
        }
        return {
            name: _stream(reader, files, origin) for name, files in split(usable, folder).items()
        }

    def changed(self, origin: dict[str, Any], raw_dir: Path) -> str:
        """See the base class: never, since the contents are in the name."""
        del origin, raw_dir
        return ""

    @property
    def downloads(self) -> bool:
        """Nothing is fetched."""
        return False


def key_of(folder: Path, size: int | None, crop: Crop | None = None) -> str:
    """The name of what is prepared of a folder. Reads all its files.

    Args:
      folder: of the pictures.
      size: side of the prepared ones.
      crop: what is cut out of each before; None is the middle square.

    Raises:
      DatasetError: there is no such folder, picture or size, or masks are of two kinds.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise DatasetError(
            f"config.data.raw_dir={folder}: no such folder; give that of your pictures"
        )
    if not size:
        raise DatasetError("folder: set config.data.size to the side of the model's images")
    if crop is not None and (len(crop) != 4 or min(crop) < 0 or not _area(crop)):
        raise DatasetError(f"config.data.crop={tuple(crop)}: give (top, left, bottom, right)")
    name = "".join(c if c.isalnum() else "-" for c in folder.name)[:40] or "root"
    found = pictures.find(folder, without=masks.FOLDER)
    has_masks = bool(masks.files(folder))
    return str(Key(name, digest(folder, found), size, crop and tuple(crop), has_masks))


def digest(folder: Path, found: Sequence[Path]) -> str:
    """16 hexadecimal digits of the names and contents of pictures and of all masks."""
    total = hashlib.sha256()
    for path in [*found, *masks.files(folder)]:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()[:16]


def split(found: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """The pictures of each part; of a few pictures, one at least for each."""
    parts = {name: [f for f in found if part_of(f, folder) == name] for name in SPLITS}
    for name, files in parts.items():
        if not files:
            parts[name] = [found[-1]]
            logging.warning(
                "%s: no picture falls into %s; it takes %s, which another part has too",
                *(folder, name, found[-1].name),
            )
    return parts


def part_of(path: Path, folder: Path) -> str:
    """The split of a picture, by its path alone."""
    place = zlib.crc32(path.relative_to(folder).as_posix().encode()) % 100
    return next(name for name, places in SPLITS.items() if place in places)


class _Reader(NamedTuple):
    """Makes records of pictures."""

    folder: Path
    key: Key
    truth: masks.Masks | None

    def can_read(self, path: Path) -> bool:
        """Whether a picture and its masks are sound; says why not."""
        try:
            self.example(path)
        except DatasetError as error:
            logging.warning("skipped: %s", error)
            return False
        return True

    def example(self, path: Path) -> Arrays:
        """The record of a picture.

        Raises:
          DatasetError: it cannot be read or is too small for the crop, or its mask does not fit.
        """
        picture = pictures.read(path)
        crop = self.key.crop
        if crop and (crop[2] > picture.height or crop[3] > picture.width):
            raise DatasetError(
                f"{path}: is {picture.height}x{picture.width}, too small for config.data.crop="
                f"{crop}; change that, or use --skip_bad"
            )
        example = {"image": np.asarray(self._fit(picture, Image.Resampling.BILINEAR))}
        if self.truth is not None:
            labels = Image.fromarray(self.truth.labels(path, picture.size))
            labels = np.asarray(self._fit(labels, Image.Resampling.NEAREST))
            visibility = np.zeros(masks.MAX_OBJECTS + 1, np.float32)
            visibility[np.union1d([0], labels[labels != masks.VOID])] = 1
            example |= {"segmentation": labels, "visibility": visibility}
        return example

    def _fit(self, picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
        size = (self.key.size, self.key.size)
        if self.key.crop is None:
            return ImageOps.fit(picture, size, resampling)
        top, left, bottom, right = self.key.crop
        return picture.crop((left, top, right, bottom)).resize(size, resampling)


def _stream(reader: _Reader, files: Sequence[Path], origin: dict[str, Any]) -> Stream:
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for path in files:
            yield reader.example(path)
            done += 1

    return Stream(examples(), lambda: done / len(files), origin)


def _area(crop: Crop) -> int:
    return max(crop[2] - crop[0], 0) * max(crop[3] - crop[1], 0)
