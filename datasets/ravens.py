"""RAVENS: a robot's table with bowls, blocks and boxes, from three cameras, 480x640.

Read from the files that HHousen's object-discovery-pytorch publishes, `ravens_robot_data_train.h5`
and `ravens_robot_data_test.h5` (or any `ravens_*_train.h5` and `ravens_*_test.h5`) in
`config.data.raw_dir`: 70,002 and 15,000 pictures by the simulator of google-research/ravens, the
three views of a scene one after the other. `official` has all of them, `first_view` those of the
front camera.

Labels are the simulator's numbers of bodies in the order in which they were loaded: plane, table,
robot, the base and the head of its gripper, then three to eight objects. Pixels that show no body
are 255. `visibility` is 1 for the plane and the objects; `view` is the camera: front, left, right.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets import hdf5, sources
from datasets.builder import MultiObjectBuilder, Variant
from datasets.errors import DamagedFileError, DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

URL = "https://huggingface.co/HHousen/object-discovery-pytorch"
HEIGHT, WIDTH = 480, 640
VIEWS = 3
_SPLITS = ("train", "test")
_NUM_BACKGROUND = 5  # plane, table, robot, base and head of the gripper
_MAX_OBJECTS = 8
_ENTITIES = _NUM_BACKGROUND + _MAX_OBJECTS
_NOBODY = 255  # -1 in a byte
_PICTURES = {"color": Field((HEIGHT, WIDTH, 3), "uint8"), "segm": Field((HEIGHT, WIDTH), "uint8")}
_WHAT = "RAVENS robot data"
_BLOCK = 8  # scenes that are read at once
_SCHEMA = Schema(
    name="ravens",
    image=(HEIGHT, WIDTH, 3),
    num_entities=_ENTITIES,
    num_background=_NUM_BACKGROUND,
    ignore_ids=(_NOBODY,),
    attributes=(("visibility", Field((_ENTITIES,), "float32")), ("view", Field((), "uint8"))),
)


class Ravens(MultiObjectBuilder):
    """A robot's table with bowls, blocks and boxes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(
            name=name,
            description=description,
            schema=_SCHEMA,
            vocabularies={"view": ["front", "left", "right"]},
        )
        for name, description in (
            ("official", "The published files."),
            ("first_view", "The front camera's pictures."),
        )
    )

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
                "ravens: set config.data.raw_dir to the directory of ravens_robot_data_train.h5 and"
                f" ravens_robot_data_test.h5, which {URL} has"
            )
        paths = _in_raw_dir(raw_dir)
        for split in _SPLITS:
            if split not in paths:
                raise DatasetError(
                    f"ravens: {raw_dir} has no ravens_*_{split}.h5; get it from {URL}"
                )
        origin = {"name": "ravens", "asked": self.source.max_records, **_fingerprint(paths)}
        views = (0,) if self.builder_config.name == "first_view" else tuple(range(VIEWS))
        return {
            split: _stream(paths[split], views, self.source.max_records, origin)
            for split in _SPLITS
        }

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        paths = _in_raw_dir(raw_dir)
        if set(paths) != set(_SPLITS):
            return ""
        now = _fingerprint(paths)
        before = {name: origin.get(name) for name in now}
        return "" if now == before else f"made from other files than those in {raw_dir}"


def _in_raw_dir(raw_dir: Path) -> dict[str, Path]:
    """The file of each split that is there."""
    found = {split: sorted(raw_dir.glob(f"ravens_*_{split}.h5")) for split in _SPLITS}
    return {split: paths[0] for split, paths in found.items() if paths}


def _fingerprint(paths: Mapping[str, Path]) -> dict[str, Any]:
    return {f"{split}_file": sources.fingerprint(path) for split, path in sorted(paths.items())}


def _stream(
    path: Path, views: tuple[int, ...], max_records: int | None, origin: dict[str, Any]
) -> Stream:
    counts = _num_objects(path)
    total = len(counts) * len(views)
    total, done = min(total, max_records or total), 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        with hdf5.opened(path, _PICTURES, _WHAT) as file:
            for start in range(0, math.ceil(total / len(views)), _BLOCK):
                scenes = range(start, min(start + _BLOCK, len(counts)))
                rows = slice(VIEWS * scenes.start, VIEWS * scenes.stop)
                images, labels = file["color"][rows], file["segm"][rows]
                _check_labels(path, labels, rows.start)
                for scene, view in itertools.product(scenes, views):
                    if done == total:
                        return
                    row = VIEWS * (scene - start) + view
                    yield {
                        "image": images[row],
                        "segmentation": labels[row],
                        "visibility": _visibility(counts[scene]),
                        "view": np.asarray(view, np.uint8),
                    }
                    done += 1

    return Stream(examples(), lambda: done / max(total, 1), origin)


def _num_objects(path: Path) -> np.ndarray:
    """How many objects each scene has, `[N]`.

    Raises:
      DamagedFileError: there is not one number from 0 to 8 for every three pictures.
    """
    with hdf5.opened(path, _PICTURES, _WHAT) as file:
        pictures, counts = len(file["color"]), file.get("num_objects_on_table")
        counts = np.zeros((0,)) if counts is None else np.ravel(counts[()])
    if VIEWS * len(counts) != pictures or not np.isin(counts, range(_MAX_OBJECTS + 1)).all():
        raise DamagedFileError(
            f"{path}: num_objects_on_table does not give one number from 0 to {_MAX_OBJECTS} for"
            f" every {VIEWS} of {pictures} pictures; get it again"
        )
    return counts.astype(int)


def _check_labels(path: Path, labels: np.ndarray, first: int) -> None:
    good = ((labels < _ENTITIES) | (labels == _NOBODY)).all(axis=(1, 2))
    if not good.all():
        picture = int(np.argmin(good))
        wrong = labels[picture][(labels[picture] >= _ENTITIES) & (labels[picture] != _NOBODY)]
        raise DamagedFileError(
            f"{path}: picture {first + picture}: segm has body {wrong.min()}, expected less than"
            f" {_ENTITIES}, or {_NOBODY}"
        )


def _visibility(num_objects: int) -> np.ndarray:
    visibility = np.zeros(_ENTITIES, np.float32)
    visibility[0] = 1
    visibility[_NUM_BACKGROUND : _NUM_BACKGROUND + num_objects] = 1
    return visibility
