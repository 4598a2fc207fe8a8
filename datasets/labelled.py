"""What the builders of labelled images share: published files of known MD5, one class per image."""

import abc
import dataclasses
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from zlib_ng import gzip_ng, zlib_ng

from datasets import sources
from datasets.builder import MultiObjectBuilder, tensors
from datasets.errors import DamagedFileError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream


@dataclasses.dataclass(frozen=True)
class File:
    """A published file: where it is and the MD5 of its content, in hexadecimal."""

    url: str
    md5: str


class LabelledImages(MultiObjectBuilder, skip_registration=True):
    """Images with one class each; no pixel says what it belongs to.

    Splits are those of `splits`, in the order of the files; `max_records` is of each. They are
    read whole, the largest takes half a gigabyte.
    """

    SUBSTITUTE = ", or use the variant :procedural, which draws other scenes"

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record: image, label and what else the set says."""
        schema = self.builder_config.schema
        return tensors({"image": Field(schema.image, "uint8"), **dict(schema.attributes)})

    def num_records(self) -> int:
        return max(split.num_examples for split in self.info.splits.values())

    @abc.abstractmethod
    def files(self) -> tuple[File, ...]:
        """The published files of the config."""

    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return ("train", "test")

    @abc.abstractmethod
    def read(self, split: str, paths: Mapping[str, Path]) -> Arrays:
        """All records of a split, `[N, ...]` by field; grey images as `[N, H, W]`.

        Args:
          split: "train" or "test".
          paths: of the files, by name; their MD5 are right.
        """

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        paths = {}
        for file in self.files():
            path = sources.find_or_download(
                self.name, file.url, self.source, dl_manager, self.SUBSTITUTE
            )
            _verify(path, file)
            paths[file.url.rpartition("/")[2]] = path
        origin = {
            "name": f"{self.name}/{self.builder_config.name}",
            "bytes": sum(path.stat().st_size for path in paths.values()),
            "asked": self.source.max_records,
        }
        return {split: self._stream(split, paths, origin) for split in self.splits()}

    def _stream(self, split: str, paths: Mapping[str, Path], origin: dict[str, Any]) -> Stream:
        schema, done, count = self.builder_config.schema, 0, 1

        def examples() -> Iterator[Arrays]:
            nonlocal done, count
            arrays = self.read(split, paths)
            total = len(arrays["label"])
            count = min(total, self.source.max_records or total)
            for i in range(count):
                yield _example({name: values[i] for name, values in arrays.items()}, schema)
                done += 1

        return Stream(examples(), lambda: done / count, origin)

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        paths = [sources.in_raw_dir(raw_dir, file.url) for file in self.files()]
        if not paths or None in paths:
            return ""
        size = sum(path.stat().st_size for path in paths)
        if size == origin["bytes"]:
            return ""
        return f"made from {origin['bytes']} bytes, {raw_dir} has {size}"


def unpacked(path: Path) -> bytes:
    """The content of a gzip file.

    Raises:
      DamagedFileError: it is damaged.
    """
    try:
        with gzip_ng.open(path, "rb") as file:
            return file.read()
    except (EOFError, OSError, gzip.BadGzipFile, zlib_ng.error) as error:
        raise DamagedFileError(f"{path}: no gzip file, or cut short ({error}); get it again") from (
            error
        )


def check_labels(path: Path, labels: np.ndarray, num_classes: int, num_images: int) -> np.ndarray:
    """The labels as uint8.

    Raises:
      DamagedFileError: there is not one of 0 to `num_classes` - 1 for each image.
    """
    if labels.shape != (num_images,):
        raise DamagedFileError(f"{path}: has {labels.size} labels of {num_images} images")
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DamagedFileError(
            f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to {num_classes - 1}"
        )
    return labels.astype(np.uint8)


def _verify(path: Path, file: File) -> None:
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != file.md5:
        raise DamagedFileError(
            f"{path}: its MD5 is {found}, published is {file.md5}; get {file.url} again"
        )


def _example(record: Arrays, schema: Schema) -> Arrays:
    """A record with three channels, and scalars as arrays."""
    image = record["image"]
    if image.ndim == 2:
        image = np.repeat(image[..., None], schema.image[-1], axis=-1)
    return {**{name: np.asarray(value) for name, value in record.items()}, "image": image}
