"""smallNORB (LeCun, Huang, Bottou 2004): toys of five categories under 972 views, 96x96, grey.

Read from the published files `smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz` and so on. Of
each stereo pair both pictures are records, the left one first: 48,600 train, 48,600 test, of other
toys of the same categories.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from datasets.builder import Variant
from datasets.errors import DamagedFileError
from datasets.labelled import File, LabelledImages, check_labels, unpacked
from datasets.schemas import Field, Schema
from datasets.sources import Arrays

URL = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small"
_STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
_MD5 = {
    "train": {
        "dat": "66054832f9accfe74a0f4c36a75bc0a2",
        "cat": "23c8b86101fbf0904a000b43d3ed2fd9",
        "info": "51dee1210a742582ff607dfd94e332e3",
    },
    "test": {
        "dat": "e4ad715691ed5a3a5f138751a4ceb071",
        "cat": "5aa791cd7e6016cf957ce9bdb93b8603",
        "info": "a9454f3864d7fd4bb3ea7fc3eb84924e",
    },
}
CATEGORIES = ["animal", "human", "airplane", "truck", "car"]
SIZE = 96  # pixels, height and width
# Columns of `info`; the azimuth is in steps of 10 degrees, all even.
_INFO = ("instance", "elevation", "azimuth", "lighting")
_TYPES = {507333717: np.dtype("u1"), 507333716: np.dtype("<i4")}  # by magic number


class SmallNorb(LabelledImages):
    """Toys of five categories, from many sides and in several lights."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(
            name="official",
            description="The published files.",
            schema=Schema(
                name="small_norb",
                image=(SIZE, SIZE, 3),
                num_entities=0,
                attributes=tuple((name, Field((), "uint8")) for name in ("label", *_INFO, "eye")),
            ),
            vocabularies={"label": CATEGORIES, "eye": ["left", "right"]},
        ),
    )

    def files(self) -> tuple[File, ...]:
        return tuple(
            File(f"{URL}/{_file(split, kind)}", md5)
            for split, kinds in _MD5.items()
            for kind, md5 in kinds.items()
        )

    def read(self, split: str, paths: Mapping[str, Path]) -> Arrays:
        """See `LabelledImages.read`."""
        pairs = read_mat(paths[_file(split, "dat")], "u1", (2, SIZE, SIZE))
        path = paths[_file(split, "cat")]
        labels = check_labels(path, read_mat(path, "<i4", ()), len(CATEGORIES), len(pairs))
        path = paths[_file(split, "info")]
        info = read_mat(path, "<i4", (len(_INFO),))
        if len(info) != len(pairs) or not ((info >= 0) & (info < 36)).all():
            raise DamagedFileError(f"{path}: does not describe {len(pairs)} pairs of pictures")
        columns = {name: info[:, i].astype(np.uint8) for i, name in enumerate(_INFO)}
        return {
            "image": pairs.reshape(-1, SIZE, SIZE),
            "label": labels.repeat(2),
            **{name: column.repeat(2) for name, column in columns.items()},
            "eye": np.tile(np.arange(2, dtype=np.uint8), len(pairs)),
        }


def _file(split: str, kind: str) -> str:
    return f"{_STEMS[split]}-{kind}.mat.gz"


def read_mat(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array `[N, *shape]` of a gzipped file in NORB's binary matrix format.

    All numbers are little-endian: a magic number for the type, the rank, at least three lengths
    (whatever the rank is), then the data.

    Raises:
      DamagedFileError: it is not one, or of another type or shape.
    """
    content = unpacked(path)
    rank = 1 + len(shape)
    header = 8 + 4 * max(rank, 3)
    if len(content) < header:
        raise DamagedFileError(
            f"{path}: {len(content)} bytes are too few for a matrix; get it again"
        )
    magic, found = struct.unpack_from("<2i", content)
    lengths = struct.unpack_from(f"<{rank}i", content, 8)
    if _TYPES.get(magic) != np.dtype(dtype) or found != rank or lengths[1:] != shape:
        raise DamagedFileError(
            f"{path}: a matrix of type {magic}, rank {found} and shape {lengths}, expected"
            f" {dtype} of shape {('N', *shape)}"
        )
    if len(content) != header + math.prod(lengths) * np.dtype(dtype).itemsize:
        raise DamagedFileError(f"{path}: {len(content) - header} bytes for a matrix of {lengths}")
    return np.frombuffer(content, dtype, offset=header).reshape(lengths)
