"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): colour images, 32x32, of 10 and 100 classes.

Read from the published archives, `cifar-10-binary.tar.gz` and so on or, if only that is in
`raw_dir`, the Python version `cifar-10-python.tar.gz`, whose pickles are read without calling
anything that they name. 50,000 train and 10,000 test; CIFAR-100 has also 20 coarse classes.
"""

import io
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from zlib_ng import gzip_ng, zlib_ng

from datasets import sources
from datasets.builder import Variant
from datasets.errors import DamagedFileError
from datasets.labelled import File, LabelledImages, check_labels
from datasets.schemas import Field, Schema
from datasets.sources import Arrays

_URL = "https://www.cs.toronto.edu/~kriz"
_MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
}
SIZE = 32  # pixels, height and width
_BYTES = 3 * SIZE * SIZE  # of an image: all red, all green, all blue
# Members of the archives by split, and the labels of a record in their order.
_BINARY = {
    "10": {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
    "100": {"train": ["train.bin"], "test": ["test.bin"]},
}
_PICKLED = {
    "10": {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    "100": {"train": ["train"], "test": ["test"]},
}
_NUM_CLASSES = {"10": {"label": 10}, "100": {"coarse_label": 20, "label": 100}}
_KEYS = {
    "10": {"label": b"labels"},
    "100": {"coarse_label": b"coarse_labels", "label": b"fine_labels"},
}
_CLASSES = {
    "10": [
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ]
}


class Cifar(LabelledImages):
    """Colour images of 10 or 100 classes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(
            name=name,
            description=f"{name} classes.",
            schema=Schema(
                name=f"cifar/{name}",
                image=(SIZE, SIZE, 3),
                num_entities=0,
                attributes=tuple((label, Field((), "uint8")) for label in labels),
            ),
            vocabularies={"label": _CLASSES[name]} if name in _CLASSES else {},
        )
        for name, labels in _NUM_CLASSES.items()
    )

    def files(self) -> tuple[File, ...]:
        """The binary archive, unless `raw_dir` has the pickled one alone."""
        name = self.builder_config.name
        binary, pickled = (
            File(f"{_URL}/{file}", _MD5[file])
            for file in (f"cifar-{name}-binary.tar.gz", f"cifar-{name}-python.tar.gz")
        )
        raw_dir = self.source.raw_dir
        has = [raw_dir and sources.in_raw_dir(raw_dir, file.url) for file in (binary, pickled)]
        return (pickled,) if has[1] and not has[0] else (binary,)

    def read(self, split: str, paths: Mapping[str, Path]) -> Arrays:
        """See `LabelledImages.read`."""
        name = self.builder_config.name
        ((file, path),) = paths.items()
        if "binary" in file:
            content = b"".join(_members(path, _BINARY[name][split]))
            pixels, labels = _from_binary(path, content, list(_NUM_CLASSES[name]))
        else:
            batches = [unpickle(path, c) for c in _members(path, _PICKLED[name][split])]
            pixels, labels = _from_pickles(path, batches, _KEYS[name])
        images = pixels.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        labels = {
            label: check_labels(path, labels[label], num, len(images))
            for label, num in _NUM_CLASSES[name].items()
        }
        return {"image": np.ascontiguousarray(images), **labels}


def _members(path: Path, names: Sequence[str]) -> list[bytes]:
    """The contents of files of an archive, by their bare names."""
    found = {}
    try:
        with gzip_ng.open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if member.isfile() and name in names:
                    found[name] = tar.extractfile(member).read()
    except (EOFError, OSError, tarfile.TarError, zlib_ng.error) as error:
        raise DamagedFileError(f"{path}: no tar.gz, or cut short ({error}); get it again") from (
            error
        )
    for name in names:
        if name not in found:
            raise DamagedFileError(f"{path}: has no {name}; get it again")
    return [found[name] for name in names]


def _from_binary(
    path: Path, content: bytes, labels: Sequence[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pixels `[N, 3072]` and labels `[N]` of records: a byte for each label, then the pixels."""
    if len(content) % (len(labels) + _BYTES):
        raise DamagedFileError(
            f"{path}: {len(content)} bytes are no whole records of {len(labels) + _BYTES}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, len(labels) + _BYTES)
    columns = {name: records[:, i] for i, name in enumerate(labels)}
    return records[:, len(labels) :], columns


def _from_pickles(
    path: Path, batches: Sequence[dict], keys: Mapping[str, bytes]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """As `_from_binary`, of pickled batches."""
    try:
        pixels = np.concatenate([batch[b"data"] for batch in batches])
        labels = {
            name: np.concatenate([np.asarray(batch[key], np.int64) for batch in batches])
            for name, key in keys.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path}: a batch is not CIFAR's ({error!r})") from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (_BYTES,):
        raise DamagedFileError(
            f"{path}: data are {pixels.dtype} {pixels.shape}, expected uint8 ('N', {_BYTES})"
        )
    return pixels, labels


class _Array:
    """What the pickles' `numpy.ndarray` becomes: holds the parts of its state, runs nothing."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if dtype.code != b"u1":
            raise pickle.UnpicklingError(f"an array of {dtype.code!r}, expected bytes")
        flat = np.frombuffer(content, np.uint8)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """What the pickles' `numpy.dtype` becomes."""

    def __init__(self, code: bytes | str, *_: Any) -> None:
        self.code = code if isinstance(code, bytes) else code.encode()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Byte order and alignment, which bytes do not have."""


# The three names that an array of NumPy is pickled with, of whichever module of it.
_PICKLED_NAMES = {
    ("multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of `_PICKLED_NAMES` and no other."""

    def find_class(self, module: str, name: str) -> Any:
        known = _PICKLED_NAMES.get((module.rpartition(".")[2], name))
        if known is None or module.partition(".")[0] != "numpy":
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return known


def unpickle(path: Path, content: bytes) -> dict[bytes, Any]:
    """A pickled batch: numbers, strings, lists, and arrays of bytes.

    Raises:
      DamagedFileError: it is something else, or names anything but an array.
    """
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return {k: v.value if isinstance(v, _Array) else v for k, v in batch.items()}
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError,
            IndexError, KeyError, OverflowError) as error:  # fmt: skip
        raise DamagedFileError(f"{path}: a batch is no pickle of CIFAR's ({error})") from error
