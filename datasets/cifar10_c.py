"""CIFAR-10-C (Hendrycks and Dietterich 2019): CIFAR-10's test images, corrupted in 19 ways.

Each way has the same 10,000 images at severities 1 to 5, one after another. Read from the published
archive, `CIFAR-10-C.tar`, or from its npy files where `raw_dir` has them unpacked.
"""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from datasets import sources
from datasets.builder import Variant
from datasets.errors import DamagedFileError
from datasets.labelled import File, LabelledImages, check_labels
from datasets.schemas import Field, Schema
from datasets.sources import Arrays

SIZE = 32  # pixels, height and width
SEVERITIES = 5
_URL = "https://zenodo.org/record/2535967/files"
_FOLDER, _ARCHIVE, _LABELS = "CIFAR-10-C", "CIFAR-10-C.tar", "labels.npy"
_MD5 = {
    _ARCHIVE: "56bf5dcef84df0e2308c6dcbcbbd8499",
    _LABELS: "c439b113295ed5254878798ffe28fd54",
    "brightness.npy": "0a81ef75e0b523c3383219c330a85d48",
    "contrast.npy": "3c8262171c51307f916c30a3308235a8",
    "defocus_blur.npy": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform.npy": "9421657c6cd452429cf6ce96cc412b5f",
    "fog.npy": "7b397314b5670f825465fbcd1f6e9ccd",
    "frost.npy": "31f6ab3bce1d9934abfb0cc13656f141",
    "gaussian_blur.npy": "c33370155bc9b055fb4a89113d3c559d",
    "gaussian_noise.npy": "ecaf8b9a2399ffeda7680934c33405fd",
    "glass_blur.npy": "7361fb4019269e02dbf6925f083e8629",
    "impulse_noise.npy": "2090e01c83519ec51427e65116af6b1a",
    "jpeg_compression.npy": "2b9cc4c864e0193bb64db8d7728f8187",
    "motion_blur.npy": "fffa5f852ff7ad299cfe8a7643f090f4",
    "pixelate.npy": "0f14f7e2db14288304e1de10df16832f",
    "saturate.npy": "1cfae0964219c5102abbb883e538cc56",
    "shot_noise.npy": "3a7239bb118894f013d9bf1984be7f11",
    "snow.npy": "bb238de8555123da9c282dea23bd6e55",
    "spatter.npy": "8a5a3903a7f8f65b59501a6093b4311e",
    "speckle_noise.npy": "ef00b87611792b00df09c0b0237a1e30",
    "zoom_blur.npy": "6ea8e63f1c5cdee1517533840641641b",
}
CORRUPTIONS = tuple(name.removesuffix(".npy") for name in _MD5 if name not in (_ARCHIVE, _LABELS))


class Cifar10C(LabelledImages):
    """CIFAR-10's test images, corrupted at severities 1 to 5."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(
            name=name,
            description=f"Corrupted by {name.replace('_', ' ')}.",
            schema=Schema(
                name=f"cifar10_c/{name}",
                image=(SIZE, SIZE, 3),
                num_entities=0,
                attributes=(("label", Field((), "uint8")), ("severity", Field((), "uint8"))),
            ),
        )
        for name in CORRUPTIONS
    )

    def files(self) -> tuple[File, ...]:
        """The archive, unless `raw_dir` has the npy files alone."""
        archive = File(f"{_URL}/{_ARCHIVE}", _MD5[_ARCHIVE])
        unpacked = tuple(File(f"{_URL}/{_FOLDER}/{n}", _MD5[n]) for n in self._names())
        raw_dir = self.source.raw_dir
        if raw_dir is None or sources.in_raw_dir(raw_dir, archive.url):
            return (archive,)
        found = all(sources.in_raw_dir(raw_dir, file.url) for file in unpacked)
        return unpacked if found else (archive,)

    def splits(self) -> tuple[str, ...]:
        """There is a test alone."""
        return ("test",)

    def read(self, split: str, paths: Mapping[str, Path]) -> Arrays:
        """See `LabelledImages.read`."""
        names = self._names()
        if _ARCHIVE in paths:
            path = paths[_ARCHIVE]
            images, labels = (_array(path, content) for content in _members(path, names))
        else:
            images, labels = (_array(paths[name], paths[name].read_bytes()) for name in names)
            path = paths[names[0]]
        if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 3):
            raise DamagedFileError(
                f"{path}: images are {images.dtype} {images.shape}, expected uint8 "
                f"('N', {SIZE}, {SIZE}, 3)"
            )
        if len(images) % SEVERITIES:
            raise DamagedFileError(f"{path}: {len(images)} images are not of {SEVERITIES} kinds")
        severity = np.repeat(np.arange(1, SEVERITIES + 1), len(images) // SEVERITIES)
        return {
            "image": images,
            "label": check_labels(path, labels, 10, len(images)),
            "severity": severity.astype(np.uint8),
        }

    def _names(self) -> tuple[str, str]:
        return f"{self.builder_config.name}.npy", _LABELS


def _members(path: Path, names: tuple[str, ...]) -> list[bytes]:
    """The contents of files of the archive, by their bare names."""
    try:
        with tarfile.open(path, "r:") as tar:
            inside = {member.name.rpartition("/")[2]: member for member in tar if member.isfile()}
            missing = [name for name in names if name not in inside]
            if missing:
                raise DamagedFileError(f"{path}: has no {missing[0]}; get it again")
            return [tar.extractfile(inside[name]).read() for name in names]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DamagedFileError(f"{path}: no tar, or cut short ({error}); get it again") from error


def _array(path: Path, content: bytes) -> np.ndarray:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"{path}: holds no npy array ({error}); get it again") from error
