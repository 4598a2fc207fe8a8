"""3D Shapes: one solid in a coloured room, 64x64 (Burgess and Kim 2018).

`official` reads `3dshapes.h5` of the public bucket `3d-shapes` (Apache-2.0): every combination of
six factors once, in order, the hue of the floor slowest. `shuffled` is the same in one random
order, so that slices of it are random samples. Neither says which pixel belongs to what;
`procedural` draws pictures of the same factors that do.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow_datasets as tfds

from datasets import hdf5, sources
from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import shapes3d as scenes
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

if TYPE_CHECKING:
    import h5py

URL = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
# Columns of the file's `labels`.
_HUES, _SCALE, _SHAPE, _ORIENTATION = slice(0, 3), 3, 4, 5
_FIELDS = {
    "images": Field((scenes.SIZE, scenes.SIZE, 3), "uint8"),
    "labels": Field((6,), "float64"),
}
_BLOCK = 4_096  # images read at once
_SEED = 0  # of the random order

_PER_ENTITY = (3,)  # floor, wall, object
_ATTRIBUTES = (
    ("hue", Field(_PER_ENTITY, "float32")),
    ("scale", Field(_PER_ENTITY, "float32")),
    ("shape", Field(_PER_ENTITY, "uint8")),
    ("orientation", Field(_PER_ENTITY, "float32")),
    ("visibility", Field(_PER_ENTITY, "float32")),
)
_VOCABULARIES = {"shape": ["none", *scenes.NAMES]}


_SCHEMA = Schema(
    name="shapes3d",
    image=(scenes.SIZE, scenes.SIZE, 3),
    num_entities=3,
    num_background=0,  # floor and wall are to be found as the object is
    attributes=_ATTRIBUTES,
)


class Shapes3d(MultiObjectBuilder):
    """One solid in a coloured room."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(
            name="official",
            description="The published file, in its order.",
            schema=_SCHEMA,
            vocabularies=_VOCABULARIES,
        ),
        Variant(
            name="shuffled",
            description="The published file, in a random order.",
            schema=_SCHEMA,
            vocabularies=_VOCABULARIES,
        ),
        Variant(
            name="procedural",
            description="Pictures of the same factors, with masks.",
            schema=_SCHEMA,
            draw=scenes.batch,
            num_scenes=50_000,
            vocabularies=_VOCABULARIES,
        ),
    )

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record; the published file has no masks."""
        fields = dict(super().features())
        if self.builder_config.draw is None:
            del fields["segmentation"]
        return tfds.features.FeaturesDict(fields)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if self.builder_config.draw is not None:
            return super()._split_generators(dl_manager)
        path = sources.find_or_download(
            self.name, self._url, self.source, dl_manager, self.SUBSTITUTE
        )
        with _opened(path) as file:
            total = len(file["images"])
        count = min(total, self.source.max_records or total)
        if self.builder_config.name == "shuffled":
            records = _shuffled(path, count)
        else:
            records = _in_order(path, count)
        return {"train": _stream(records, path, count, self.source.max_records)}

    @property
    def _url(self) -> str:
        return URL


def _stream(
    records: Iterable[tuple[np.ndarray, np.ndarray]], path: Path, count: int, asked: int | None
) -> Stream:
    """Images `[64, 64, 3]` with their labels `[6]` as examples."""
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for image, labels in records:
            factors = (labels[None, part] for part in (_HUES, _SCALE, _SHAPE, _ORIENTATION))
            rows = scenes.attributes(*factors)
            yield {"image": image, **{name: row[0] for name, row in rows.items()}}
            done += 1

    origin = {"name": path.name, "bytes": path.stat().st_size, "asked": asked}
    return Stream(examples(), lambda: done / count, origin)


def _in_order(path: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` images with their labels."""
    with _opened(path) as file:
        for start in range(0, count, _BLOCK):
            block = slice(start, min(start + _BLOCK, count))
            yield from zip(file["images"][block], file["labels"][block], strict=True)


def _shuffled(path: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` images, with their labels, of a random order of the file.

    The file is read once, from beginning to end, since reading its compressed chunks at random
    would unpack each many times; the images, 6 GB if all are wanted, are in memory meanwhile.
    """
    with _opened(path) as file:
        images = file["images"]
        order = np.random.default_rng(_SEED).permutation(len(images))[:count]
        place = np.full(len(images), -1)
        place[order] = np.arange(count)
        ordered = np.empty((count, *images.shape[1:]), np.uint8)
        for start in range(0, len(images), _BLOCK):
            places = place[start : start + _BLOCK]
            ordered[places[places >= 0]] = images[start : start + _BLOCK][places >= 0]
        yield from zip(ordered, file["labels"][...][order], strict=True)


def _opened(path: Path) -> contextlib.AbstractContextManager["h5py.File"]:
    """The file, whose arrays are those of the published one; raises as `hdf5.opened`."""
    return hdf5.opened(path, _FIELDS, "3dshapes.h5")
