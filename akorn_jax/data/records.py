"""Prepared datasets: read by name, cut to a paper's protocol, and read in a fixed order.

Knows TFDS and nothing of how the files were made. A *protocol* is data (`config.data`): which
prepared records, which crop and size, which scenes are kept, and which of the kept ones are for
training and for testing.
"""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from akorn_jax.data import properties
from akorn_jax.data.feature_cache import FeatureCache
from akorn_jax.errors import UserError
from akorn_jax.runtime import storage

Bounds = tuple[int | None, int | None]

# What reading damaged notes of a dataset (dataset_info.json and the like) raises.
DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError),
    *(FileNotFoundError, json_format.ParseError),
)
BLOCK = 128  # records that are read at a time
# What `num_objects` looks at.
COUNT_FIELD = {"visible": "segmentation", "listed": "visibility", "none": None}
INTERPOLATIONS = ("nearest", "bilinear")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Scenes in memory.

    Attributes:
        images: `[N, H, W, 3]` uint8; None where the data are of another kind.
        segmentation: `[N, H, W]` uint8; 0 is the background, i the i-th object. None where the
            dataset has no masks.
        attributes: all other fields `[N, ...]` by name: per object `[N, E, ...]`, "label" `[N]`,
            "features" `[N, h, w, D]`.
        records: `[N]`, each scene's place in the prepared split.
        counts: `[N]`, objects in each scene, as the protocol counts them.
        background_ids: labels that are no object.
        ignore_ids: labels of pixels that belong to nobody.
    """

    images: np.ndarray | None
    segmentation: np.ndarray | None
    attributes: dict[str, np.ndarray]
    records: np.ndarray
    counts: np.ndarray
    background_ids: tuple[int, ...] = (0,)
    ignore_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.records)


def load(
    data: Mapping[str, Any], part: str, data_dir: str | Path, *, objects: Bounds | None = None
) -> Examples:
    """The scenes of one part of a protocol, decoded, cropped and resized.

    Args:
        data: `config.data`, a protocol.
        part: "train", "validation" or "test"; a (start, stop) of the kept scenes in file order.
        data_dir: where the datasets are prepared.
        objects: at least and at most so many objects (None: no bound) instead of what the protocol
            keeps. Scenes still come from the part's stretch of the file: from after the last scene
            of the part before to the last of this one. So a part stays apart from the others.

    Raises:
        UserError: if the prepared data has fewer scenes than the protocol needs, or none.
    """
    builder = open_builder(data["name"], data_dir)
    scenes = list(_filtered(builder, data, part, objects=objects))
    if not scenes:
        low, high = ("any number" if bound is None else bound for bound in objects)
        raise UserError(
            f"{data['name']}: no {part} scene has {low} to {high} objects; change "
            "config.eval.min_objects or config.eval.max_objects."
        )
    records, found = zip(*scenes, strict=True)
    arrays = {name: np.stack([example[name] for example in found]) for name in found[0]}
    if data.get("features"):
        arrays["features"] = FeatureCache(data, part, data_dir).rows(np.asarray(records))
    metadata = builder.info.metadata or {}
    return Examples(
        images=arrays.pop("image", None),
        segmentation=arrays.pop("segmentation", None),
        attributes=arrays,
        records=np.asarray(records),
        counts=np.array([num_objects(example, data["count"]) for example in found]),
        background_ids=tuple(metadata.get("background_ids", (0,))),
        ignore_ids=tuple(metadata.get("ignore_ids", ())),
    )


def load_fields(
    data: Mapping[str, Any], part: str, data_dir: str | Path, names: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Some fields of `load`'s scenes, `[N, ...]` by name, and their places in the prepared split.

    Args:
        data: `config.data`, a protocol.
        part: "train", "validation" or "test".
        data_dir: where the datasets are prepared.
        names: "image", "segmentation" or attributes, "features" (where `data["features"]`, those
            of a frozen encoder); what else a record has is not decoded.

    Raises:
        UserError: as `load`.
    """
    builder = open_builder(data["name"], data_dir)
    stored = [name for name in names if not (name == "features" and data.get("features"))]
    records, found = zip(*_filtered(builder, data, part, names=stored), strict=True)
    arrays = {name: np.stack([example[name] for example in found]) for name in stored}
    if len(stored) < len(names):
        arrays["features"] = FeatureCache(data, part, data_dir).rows(np.asarray(records))
    return arrays, np.asarray(records)


def open_builder(name: str, data_dir: str | Path) -> tfds.core.DatasetBuilder:
    """The prepared dataset "name/config", or a dataset of TFDS's own, "name".

    Raises:
        UserError: if it is not prepared there.
    """
    # What is prepared says all that is needed; TFDS may have other datasets of our names.
    of_files = tfds.core.read_only_builder.builder_from_files
    make = tfds.builder if is_of_tfds(name) else of_files
    try:
        builder = make(name, data_dir=storage.plain(data_dir))
        prepared = builder.is_prepared()
        if prepared:
            _ = builder.info.splits, builder.info.features, builder.info.metadata
    except tfds.core.DatasetNotFoundError:
        prepared = False
    except DAMAGE as error:
        raise UserError(
            f"{name}: its files in {data_dir} are damaged ({type(error).__name__}); run with "
            "--mode=prepare, which prepares it again."
        ) from error
    if not prepared:
        remedy = "run with --mode=prepare first"
        if is_of_tfds(name):
            remedy = (
                f"where TensorFlow is installed, run `tfds build {name} --file_format=array_record "
                f"--data_dir={data_dir}`"
            )
        raise UserError(f"{name} is not prepared in {data_dir}; {remedy}.")
    return builder


def is_of_tfds(name: str) -> bool:
    """Whether a dataset is TFDS's own; names of ours have a config, "tetrominoes/official"."""
    return "/" not in name and name in tfds.list_builders(with_community_datasets=False)


def check_parts(data: Mapping[str, Any], parts: Sequence[str], data_dir: str | Path) -> None:
    """Checks that what is prepared has all records that parts of the protocol take.

    Where a protocol filters scenes, that is seen only when they are read.

    Raises:
        UserError: naming both counts.
    """
    builder = open_builder(data["name"], data_dir)
    for part in parts if not is_filtered(data) else ():
        if data[part] is not None:
            split, _, stop = _slice(builder, data, part)
            total = builder.info.splits[split].num_examples
            _check_enough(total if stop is None else min(stop, total), data, part)


class OnDisk:
    """Scenes on disk: `stored[i]` is read, cropped and resized when it is asked for.

    Where the protocol filters scenes, all records are read once to find those that it keeps.

    Args:
        data: `config.data`, a protocol.
        part: "train", "validation" or "test".
        data_dir: where the datasets are prepared.
        names: "image", "segmentation" or attributes: what is decoded; None: all.

    Attributes:
        records: `[N]`, each scene's place in the prepared split.

    Raises:
        UserError: as `load`.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        part: str,
        data_dir: str | Path,
        names: Sequence[str] | None = None,
    ) -> None:
        builder = open_builder(data["name"], data_dir)
        self._data = dict(data)
        self._codes = _codes(builder)
        if is_filtered(data):
            logging.info("Looking which scenes of %s the protocol keeps.", data["name"])
            self.records = np.array(
                [record for record, _ in _filtered(builder, data, part, names=())]
            )
        else:
            split, start, stop = _slice(builder, data, part)
            total = builder.info.splits[split].num_examples
            stop = total if stop is None else stop
            _check_enough(min(stop, total), data, part)
            self.records = np.arange(start, stop)
        split, _, _ = _slice(builder, data, part)
        self._features = None
        if data.get("features") and (names is None or "features" in names):
            self._features = FeatureCache(data, part, data_dir)
            names = None if names is None else [name for name in names if name != "features"]
        self._source = _Records(builder, split, names)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        record = int(self.records[index])
        example = transform(self._source[record], self._data, self._codes)
        if self._features is not None:
            example["features"] = self._features.rows(np.array([record]))[0]
        return example


def is_filtered(data: Mapping[str, Any]) -> bool:
    """Whether a protocol keeps some scenes only."""
    return data["min_objects"] is not None or data["max_objects"] is not None


def _slice(
    builder: tfds.core.DatasetBuilder, data: Mapping[str, Any], part: str
) -> tuple[str, int, int | None]:
    """The split that a part is of, and its (start, stop) among the scenes kept."""
    if data[part] is None:
        raise UserError(
            f"{data['name']}: this protocol has no {part} part; set config.data.{part}."
        )
    split = data["split"] if isinstance(data["split"], str) else data["split"][part]
    if split not in builder.info.splits:
        raise UserError(f"{data['name']} has no split {split!r}: {', '.join(builder.info.splits)}.")
    _check_length(data, part, "(first, end)")
    if data["crop"] is not None:
        _check_length(data, "crop", "(top, left, bottom, right)")
    return split, *data[part]


def _check_length(data: Mapping[str, Any], field: str, expected: str) -> None:
    """A tuple's flag that is given twice gives one tuple of all."""
    if len(data[field]) != expected.count(",") + 1:
        raise UserError(
            f"config.data.{field}={tuple(data[field])}: expected {expected}; "
            "pass all its numbers at once."
        )


def _filtered(
    builder: tfds.core.DatasetBuilder,
    data: Mapping[str, Any],
    part: str,
    *,
    names: Sequence[str] | None = None,
    objects: Bounds | None = None,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The scenes of a part in file order, with their places in the split.

    `names` are the fields wanted, None for all; `objects` is as for `load`.
    """
    data = dict(data)  # a ConfigDict is slow to look into, and every scene does
    split, start, stop = _slice(builder, data, part)
    kept_bounds = (data["min_objects"], data["max_objects"])
    wanted = kept_bounds if objects is None else objects
    total = builder.info.splits[split].num_examples
    if stop is not None and not is_filtered(data):
        total = min(total, stop)  # no more than are needed
    kept, codes = 0, _codes(builder)
    counted = objects is not None or is_filtered(data)
    if counted and COUNT_FIELD[data["count"]] is None:
        raise UserError(
            f"{data['name']}: its records do not say how many objects there are; leave min_objects "
            "and max_objects unset."
        )
    if not counted:
        kept = min(start, total)  # all are, so those before need not be read
    elif names is not None:
        names = {*names, COUNT_FIELD[data["count"]]}
    for record, example in _Records(builder, split, names).read(kept, total):
        example = transform(example, data, codes)
        count = num_objects(example, data["count"]) if counted else None  # no bounds then
        if kept >= start and _within(count, wanted):
            yield record, example
        kept += _within(count, kept_bounds)
        if stop is not None and kept == stop:
            break
    _check_enough(kept, data, part)


class _Records:
    """The records of a split, of which only some fields are decoded.

    TFDS's own `decode.PartialDecoding` does not work on its data sources.

    Args:
        builder: a prepared dataset.
        split: its split.
        names: the fields wanted; None: all. All are decoded too where a name is no field of the
            record but of its list of objects.

    Raises:
        UserError: when records of a damaged file are read.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, names: Collection[str] | None
    ) -> None:
        stored = builder.info.features
        some = names is not None and set(names) <= set(stored)
        chosen = {name: stored[name] for name in names} if some else dict(stored)
        self._features = tfds.features.FeaturesDict(chosen)
        stored_as = self._features.get_serialized_info().values()
        self._are_bytes = all(
            isinstance(info, tfds.features.TensorInfo)
            and (info.shape, info.np_dtype) == ((), np.dtype(object))
            for info in stored_as
        )
        self._directory = builder.data_dir
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split=split, deserialize_method=raw)

    def __getitem__(self, place: int) -> dict[str, Any]:
        with self._naming_damage():
            record = self._source[place]
        return self._decode(record)

    def read(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The records from `start` to `stop`, with their places.

        They are read by blocks, which takes less than half the time of one by one.
        """
        for first in range(start, stop, BLOCK):
            places = range(first, min(first + BLOCK, stop))
            with self._naming_damage():
                records = self._source.__getitems__(places)
            for place, record in zip(places, records, strict=True):
                yield place, self._decode(record)

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what array_record says of a damaged file
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self._directory}: a prepared file is damaged ({reason}); delete the directory "
                "and run with --mode=prepare again."
            ) from error

    def _decode(self, record: bytes) -> dict[str, Any]:
        if not self._are_bytes:
            return self._features.deserialize_example_np(record)
        # Where each field is one string of bytes, as our builders write them, it needs none of the
        # general parser, which takes four times as long.
        fields = tf_example_pb2.Example.FromString(record).features.feature
        return {
            name: feature.decode_example_np(fields[name].bytes_list.value[0])
            for name, feature in self._features.items()
        }


def _check_enough(kept: int, data: Mapping[str, Any], part: str) -> None:
    start, stop = data[part]
    if kept <= start or (stop is not None and kept < stop):
        needed, limit = stop or start + 1, data.get("max_records")
        more = "raise config.data.max_records or " if limit is not None and limit < needed else ""
        more = more if not is_filtered(data) else "raise config.data.max_records or "
        raise UserError(
            f"{data['name']} has {kept} scenes that fit, {part}=({start}, {stop}) needs "
            f"{needed}; {more or 'there are no more, '}set config.data.{part}."
        )


def _codes(builder: tfds.core.DatasetBuilder) -> dict[str, np.ndarray]:
    """See `properties.translations`."""
    return properties.translations((builder.info.metadata or {}).get("vocabularies", {}))


def transform(
    example: Mapping[str, Any],
    data: Mapping[str, Any],
    codes: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """One record with the protocol's crop and size, and codes that mean the same in all datasets.

    Objects of TFDS's `clevr` become attributes as our builders store them.

    Args:
        example: as stored, or some of its fields.
        data: a protocol.
        codes: tables from stored to common codes, by attribute.
    """
    if "objects" in example:
        example = {"image": example["image"], **properties.from_tfds(example["objects"])}
    example = {name: np.asarray(value) for name, value in example.items()}
    example |= {n: table[example[n]] for n, table in codes.items() if n in example}
    if "image" in example:
        image = example["image"]
        image = image if image.ndim == 3 else image[..., None]
        if image.shape[-1] == 1:
            image = np.repeat(image, 3, axis=-1)
        example["image"] = _cut(image, data, data["interpolation"])
    if "segmentation" in example:
        labels = example["segmentation"]
        example["segmentation"] = _cut(labels.reshape(labels.shape[:2]), data, "nearest")
    return example


def _cut(array: np.ndarray, data: Mapping[str, Any], interpolation: str) -> np.ndarray:
    """An image or a label map with the protocol's crop and size."""
    if interpolation not in INTERPOLATIONS:
        choices = ", ".join(INTERPOLATIONS)
        raise UserError(f"config.data.interpolation={interpolation!r}: choose one of {choices}.")
    if data["crop"] is not None:
        top, left, bottom, right = data["crop"]
        height, width = array.shape[:2]
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise UserError(
                f"config.data.crop={(top, left, bottom, right)}: the images have {height} rows and "
                f"{width} columns; give (top, left, bottom, right) within them, or none."
            )
        array = array[top:bottom, left:right]
    if data["size"] is None or array.shape[:2] == (data["size"], data["size"]):
        return array
    if interpolation == "nearest":
        return _nearest(array, data["size"])
    size = (data["size"], data["size"])
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))


def _nearest(array: np.ndarray, size: int) -> np.ndarray:
    """`[H, W, ...]` at `[size, size, ...]`: pixel i comes from floor((i + 1/2) H / size)."""
    rows, columns = (
        ((np.arange(size) + 0.5) * length / size).astype(int) for length in array.shape[:2]
    )
    return array[rows][:, columns]


def num_objects(example: Mapping[str, np.ndarray], count: str) -> int:
    """How many objects a scene has.

    Args:
        example: a transformed record.
        count: "visible", the largest label that is still in the picture (as AKOrN counts),
            "listed", the objects in the record, wherever they are, or "none": the dataset does not
            say, 0.
    """
    if count == "none" or COUNT_FIELD[count] not in example:
        return 0  # the data do not say
    if count == "visible":
        return int(example["segmentation"].max())
    return int(np.sum(example["visibility"][1:]))


def _within(count: int | None, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or count >= low) and (high is None or count <= high)


class EpochSampler:
    """Which scenes each step sees: a pure function of (seed, step).

    The stream is one permutation of all scenes after another, so every scene is seen once an epoch;
    a batch may span two epochs. The i-th step takes the stream's entries from i * batch_size.
    """

    def __init__(self, num_examples: int, batch_size: int, seed: int) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def __getitem__(self, step: int) -> np.ndarray:
        """The scenes of a step, `[batch_size]` int32."""
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(position, self.num_examples)
        wanted = range(int(epochs[0]), int(epochs[-1]) + 1)
        known = self._epochs  # never changed, only replaced: threads that read a stream share it
        orders = {e: known[e] if e in known else self._permutation(e) for e in wanted}
        self._epochs = orders
        return np.stack([orders[e][p] for e, p in zip(epochs, places, strict=True)])

    def _permutation(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        return rng.permutation(self.num_examples).astype(np.int32)
