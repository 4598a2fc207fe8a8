"""Sets as AKOrN's converter leaves them: `colored_on_grayscale_train.npz` and so on.

The official code of AKOrN (autonomousvision/akorn) converts DeepMind's multi-object files to one
npz file for each part, with `images`, `[N, 3, H, W]` numbers in [0, 1], and `labels`, `[N, H, W]`
bytes. `config.data.raw_dir` has them, or a directory there that the converter made. Crop, size and
choice of scenes are the converter's; which attributes the objects have it does not keep. Configs:

    multi_dsprites   coloured on grayscale, 64x64
    tetrominoes      32x32
    clevr6           CLEVR with masks, at most six objects, 128x128

The part `eval`, 64 scenes for a look, is not read. Files are unpacked as a stream: their arrays of
float64 take up to 16 GB.
"""

import contextlib
import dataclasses
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow_datasets as tfds

from datasets import sources
from datasets.builder import MultiObjectBuilder, Variant, tensors
from datasets.errors import DamagedFileError, DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

CONVERTER = "data/convert_tfrecord_to_np.py of github.com/autonomousvision/akorn"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}
# What reading damaged archives and headers raises.
_BROKEN = (
    *(OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(kw_only=True)
class Converted(Variant):
    """A config.

    Attributes:
      folder: that the converter makes.
      stems: of the files, before `_train.npz`; the first that is there counts.
    """

    folder: str
    stems: tuple[str, ...]


def _variant(name: str, size: int, num_entities: int, folder: str, *stems: str) -> Converted:
    return Converted(
        name=name,
        description=f"Converted, {size}x{size}.",
        schema=Schema(name=f"akorn_npz/{name}", image=(size, size, 3), num_entities=num_entities),
        folder=folder,
        stems=stems,
    )


class AkornNpz(MultiObjectBuilder):
    """Scenes with masks that AKOrN's code converted."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        _variant("multi_dsprites", 64, 6, "multi_dsprites", "colored_on_grayscale"),
        _variant("tetrominoes", 32, 4, "tetrominoes", "tetrominoes"),
        # The converter's name, and the one that the official loader wants it renamed to.
        _variant("clevr6", 128, 11, "clevr_with_masks", "clevr_with_masks", "clevr"),
    )

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record: image and segmentation."""
        schema = self.builder_config.schema
        height, width, _ = schema.image
        fields = {"image": schema.image, "segmentation": (height, width)}
        return tensors({name: Field(shape, "uint8") for name, shape in fields.items()})

    @property
    def downloads(self) -> bool:
        """Nothing is fetched."""
        return False

    def num_records(self) -> int:
        return max(split.num_examples for split in self.info.splits.values())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        del dl_manager
        variant, raw_dir = self.builder_config, self.source.raw_dir
        wanted = f"{variant.stems[0]}_train.npz, ..._val.npz and ..._test.npz"
        if raw_dir is None:
            raise DatasetError(
                f"akorn_npz: set config.data.raw_dir to the directory of {wanted}, which"
                f" {CONVERTER} writes"
            )
        paths = _in_raw_dir(raw_dir, variant)
        if set(paths) != set(_SPLITS):
            raise DatasetError(f"akorn_npz: {raw_dir} does not have {wanted}; run {CONVERTER}")
        origin = {"name": "npz", "asked": self.source.max_records, **_fingerprint(paths)}
        return {
            split: _stream(paths[split], variant.schema, self.source.max_records, origin)
            for split in _SPLITS
        }

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        paths = _in_raw_dir(raw_dir, self.builder_config)
        if set(paths) != set(_SPLITS):
            return ""
        now = _fingerprint(paths)
        before = {name: origin.get(name) for name in now}
        return "" if now == before else f"made from other files than those in {raw_dir}"


def _in_raw_dir(raw_dir: Path, variant: Converted) -> dict[str, Path]:
    """The file of each split that is there."""
    found = {}
    for split, part in _SPLITS.items():
        for stem in variant.stems:
            path = sources.in_raw_dir(raw_dir, f"{variant.folder}/{stem}_{part}.npz")
            if path is not None:
                found.setdefault(split, path)
    return found


def _fingerprint(paths: Mapping[str, Path]) -> dict[str, Any]:
    return {f"{split}_file": sources.fingerprint(path) for split, path in sorted(paths.items())}


def _stream(path: Path, schema: Schema, max_records: int | None, origin: dict[str, Any]) -> Stream:
    height, width, channels = schema.image
    images = _Member(path, "images", (channels, height, width), "f")
    labels = _Member(path, "labels", (height, width), "iu")
    if images.length != labels.length:
        raise DamagedFileError(
            f"{path}: has {images.length} images and {labels.length} label maps; convert it again"
        )
    count, done = min(images.length, max_records or images.length), 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for image, segmentation in zip(images.rows(count), labels.rows(count), strict=True):
            yield {
                "image": _bytes(path, image, done),
                "segmentation": _label_map(path, segmentation, schema, done),
            }
            done += 1

    return Stream(examples(), lambda: done / max(count, 1), origin)


def _bytes(path: Path, image: np.ndarray, number: int) -> np.ndarray:
    """`[3, H, W]` in [0, 1] as `[H, W, 3]` uint8."""
    if not ((image >= 0) & (image <= 1)).all():  # also where a number is none
        raise DamagedFileError(f"{path}: image {number} is not within [0, 1]; convert it again")
    return np.rint(255 * image).astype(np.uint8).transpose(1, 2, 0)


def _label_map(path: Path, labels: np.ndarray, schema: Schema, number: int) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= schema.num_entities:
        raise DamagedFileError(
            f"{path}: label map {number} has labels {labels.min()} to {labels.max()}, expected 0 to"
            f" {schema.num_entities - 1}; convert it again"
        )
    return labels.astype(np.uint8)


class _Member:
    """An array `[N, *shape]` of an npz file, row by row.

    Attributes:
      length: N.

    Raises:
      DamagedFileError: it is missing, of another shape or type, or cannot be read.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], kinds: str) -> None:
        self._path, self._name, self._row = path, name, shape
        with self._opened() as (_, found, dtype):
            pass
        if found[1:] != shape or dtype.kind not in kinds:
            raise DamagedFileError(
                f"{path}: {name} is {dtype} of shape {found}, expected {('N', *shape)}; it is not"
                f" what {CONVERTER} writes"
            )
        self.length = found[0]

    def rows(self, count: int) -> Iterator[np.ndarray]:
        """The first `count`."""
        with self._opened() as (stream, _, dtype):
            size = math.prod(self._row) * dtype.itemsize
            for _ in range(count):
                row = stream.read(size)
                if len(row) < size:
                    raise EOFError(f"{self._name} ends early")
                yield np.frombuffer(row, dtype).reshape(self._row)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
        """The stream of the data, the shape and the type."""
        try:
            with zipfile.ZipFile(self._path) as file, file.open(f"{self._name}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_2_0
                if version == (1, 0):
                    read = np.lib.format.read_array_header_1_0
                shape, fortran, dtype = read(stream)
                if fortran:
                    raise ValueError(f"{self._name} is stored column by column")
                yield stream, shape, dtype
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:200]
            raise DamagedFileError(
                f"{self._path}: no npz file, or damaged ({reason}); convert it again"
            ) from error
