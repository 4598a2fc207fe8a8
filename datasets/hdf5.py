"""HDF5 files: opened with a look at what they hold, read block by block.

Besides files that were published as HDF5, those that HHousen's object-discovery-pytorch converted
DeepMind's multi-object files to (`clevr_with_masks.h5`, `tetrominoes.h5`): one dataset per field of
the records, in the order of the file, masks with the entities first.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.errors import DamagedFileError, DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream, as_rgb, fingerprint

if TYPE_CHECKING:
    import h5py

_BLOCK_BYTES = 1 << 26  # that are read at once


@contextlib.contextmanager
def opened(path: Path, fields: Mapping[str, Field], what: str) -> Iterator["h5py.File"]:
    """The file, which has these datasets, `[N, *shape]` each; it may have others.

    Args:
      path: of the file.
      fields: by the names of the datasets.
      what: it should be, for the error.

    Raises:
      DamagedFileError: a dataset is missing or of another shape or type, or the file cannot be
        read; also while it is open.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _check(path, file, fields, what)
            yield file
    except DatasetError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # what h5py says of damage
        raise DamagedFileError(
            f"{path}: not HDF5, or cut short ({' '.join(str(error).split())}); get it again"
        ) from error


def _check(path: Path, file: "h5py.File", fields: Mapping[str, Field], what: str) -> None:
    lengths = {}
    for name, field in fields.items():
        dataset = file.get(name)  # may be a group
        shape = ("N", *field.shape)
        if getattr(dataset, "shape", None) is None or dataset.shape[1:] != field.shape:
            raise DamagedFileError(f"{path}: has no {name} of shape {shape}; it is not {what}")
        if dataset.dtype != np.dtype(field.dtype):
            raise DamagedFileError(
                f"{path}: {name} is {dataset.dtype}, expected {field.dtype}; it is not {what}"
            )
        lengths[name] = len(dataset)
    if len(set(lengths.values())) > 1:
        raise DamagedFileError(f"{path}: the lengths of its datasets differ ({lengths})")


def blocks(file: "h5py.File", fields: Mapping[str, Field], count: int) -> Iterator[Arrays]:
    """The first `count` rows of the datasets, some at a time: `[n, ...]` by name."""
    row = sum(field.size * np.dtype(field.dtype).itemsize for field in fields.values())
    step = max(1, _BLOCK_BYTES // row)
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield {name: file[name][start:stop] for name in fields}


def copy_of(file: str) -> str:
    """What the copy of a published file is called, e.g. `tetrominoes/tetrominoes.h5`."""
    return f"{file.removesuffix('.tfrecords').removesuffix('_train')}.h5"


def copied(path: Path, schema: Schema, max_records: int | None) -> Stream:
    """The first `max_records` records of a converted multi-object file, as the original's.

    Raises:
      DamagedFileError: see `opened`; a mask or a visibility has other values than it should.
    """
    height, width, _ = schema.image
    masks = Field((schema.num_entities, height, width, 1), "uint8")
    fields = {**schema.fields, "mask": masks}
    what = f"a copy of {schema.name}"
    with opened(path, fields, what) as file:
        count = min(len(file["image"]), max_records or len(file["image"]))
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        with opened(path, fields, what) as file:
            for block in blocks(file, fields, count):
                mask = block.pop("mask")[..., 0]
                block["segmentation"] = _labels(path, mask, done)
                _check_visibility(path, block, done)
                for row in zip(*block.values(), strict=True):
                    yield as_rgb(dict(zip(block, row, strict=True)))
                    done += 1

    origin = {"name": path.name, "asked": max_records, **fingerprint(path)}
    return Stream(examples(), lambda: done / max(count, 1), origin)


def _labels(path: Path, masks: np.ndarray, first: int) -> np.ndarray:
    """Label maps `[n, H, W]` of masks `[n, E, H, W]` in {0, 255}; the later entity wins."""
    good = np.isin(masks, (0, 255)).reshape(len(masks), -1).all(axis=1)
    if not good.all():
        raise DamagedFileError(
            f"{path}: record {first + int(np.argmin(good))}: mask: expected the values 0 and 255"
            " only; get it again"
        )
    entities = np.arange(masks.shape[1], dtype=np.uint8)[:, None, None]
    return np.max(np.where(masks == 255, entities, np.uint8(0)), axis=1)


def _check_visibility(path: Path, block: Arrays, first: int) -> None:
    if "visibility" not in block:
        return
    good = np.isin(block["visibility"], (0, 1)).all(axis=1)
    if not good.all():
        raise DamagedFileError(
            f"{path}: record {first + int(np.argmin(good))}: visibility: expected the values 0 and"
            " 1 only; get it again"
        )
