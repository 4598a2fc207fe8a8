"""Sketchy: frames of a robot arm above a tray (Cabi et al. 2019), as GENESIS prepares them.

Read from the PNG files of that preparation (Engelcke et al. 2020; a copy is published by HHousen's
object-discovery-pytorch as `genesis_sketchy_processed.tar.gz`, to be unpacked), in
`config.data.raw_dir` or in `processed` there:

    train/ep000123/ep000123_t0040_fl_full.png

and likewise `valid` and `test`: episode 123, frame 40, camera front left (`fr` is front right), the
whole square or one of six crops `c0` to `c5`, 128x128. Nobody says which pixel belongs to what. A
split is in the order of episode, frame, camera and crop; one that is not there is left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from datasets.builder import MultiObjectBuilder, Variant, tensors
from datasets.errors import DamagedFileError, DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

SIZE = 128  # pixels, height and width
_FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
_CAMERAS, _CROPS = ("fl", "fr"), ("full", "c0", "c1", "c2", "c3", "c4", "c5")
_NAME = re.compile(rf"ep(\d+)_t(\d+)_({'|'.join(_CAMERAS)})_({'|'.join(_CROPS)})\.png")
_PLACE = {"episode": "int32", "frame": "int32", "camera": "uint8", "crop": "uint8"}
# What Pillow raises of damaged files, besides its own class for bombs.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class _Frame(NamedTuple):
    """A picture's place in the order, and its file."""

    episode: int
    frame: int
    camera: int
    crop: int
    path: Path


class Sketchy(MultiObjectBuilder):
    """A robot arm above a tray."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(
            name="official",
            description="The prepared frames.",
            schema=Schema(
                name="sketchy",
                image=(SIZE, SIZE, 3),
                num_entities=0,
                attributes=tuple((name, Field((), dtype)) for name, dtype in _PLACE.items()),
            ),
            vocabularies={"camera": ["front left", "front right"], "crop": list(_CROPS)},
        ),
    )

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record; there are no masks."""
        schema = self.builder_config.schema
        return tensors({"image": Field(schema.image, "uint8"), **dict(schema.attributes)})

    @property
    def downloads(self) -> bool:
        """Nothing is fetched."""
        return False

    def num_records(self) -> int:
        return max(split.num_examples for split in self.info.splits.values())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        del dl_manager
        raw_dir = self.source.raw_dir
        if raw_dir is None:
            raise DatasetError(
                "sketchy: set config.data.raw_dir to the directory of GENESIS's prepared frames,"
                " processed/train/ep*/ep*.png and so on"
            )
        frames = _in_raw_dir(raw_dir)
        if not frames:
            raise DatasetError(
                f"sketchy: {raw_dir} has no processed/train/ep*/ep*_t*_fl_full.png or the like;"
                " unpack the prepared frames there"
            )
        origin = {"name": "frames", "asked": self.source.max_records, **_fingerprint(frames)}
        return {
            split: _stream(found[: self.source.max_records], origin)
            for split, found in frames.items()
        }

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        now = _fingerprint(_in_raw_dir(raw_dir))
        before = {name: origin.get(name) for name in now}
        return "" if now == before or not now["files"] else f"made from {before}, now {now}"


def _in_raw_dir(raw_dir: Path) -> dict[str, list[_Frame]]:
    """The frames of every split that is there, in order."""
    place = raw_dir / "processed" if (raw_dir / "processed").is_dir() else raw_dir
    found = {split: _frames(place / folder) for split, folder in _FOLDERS.items()}
    return {split: frames for split, frames in found.items() if frames}


def _frames(folder: Path) -> list[_Frame]:
    frames = []
    for path in folder.glob("ep*/ep*.png"):
        if match := _NAME.fullmatch(path.name):
            episode, frame, camera, crop = match.groups()
            place = (int(episode), int(frame), _CAMERAS.index(camera), _CROPS.index(crop))
            frames.append(_Frame(*place, path))
    return sorted(frames)


def _fingerprint(frames: Mapping[str, Sequence[_Frame]]) -> dict[str, int]:
    """How many files; their bytes would take as long to count as the frames to prepare."""
    return {"files": sum(map(len, frames.values()))}


def _stream(frames: Sequence[_Frame], origin: dict[str, Any]) -> Stream:
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for frame in frames:
            place = {n: np.asarray(getattr(frame, n), dtype) for n, dtype in _PLACE.items()}
            yield {"image": _pixels(frame.path), **place}
            done += 1

    return Stream(examples(), lambda: done / max(len(frames), 1), origin)


def _pixels(path: Path) -> np.ndarray:
    """The picture `[128, 128, 3]`.

    Raises:
      DamagedFileError: it cannot be read, or has another size.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except _BROKEN as error:
        raise DamagedFileError(f"{path}: not a readable image ({error}); get it again") from error
    if pixels.shape != (SIZE, SIZE, 3):
        raise DamagedFileError(
            f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, expected {SIZE}x{SIZE}; prepare"
            " the frames as GENESIS does"
        )
    return pixels
