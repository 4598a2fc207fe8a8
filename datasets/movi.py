"""MOVi-A to E: videos of objects that fall and collide, rendered by Kubric (Greff et al. 2022).

Read from Kubric's own files, TFRecords in TFDS's layout such as

    movi_c/128x128/1.0.0/movi_c-train.tfrecord-00000-of-01024

in `raw_dir` or any folder above them; without `raw_dir`, shard after shard is downloaded from the
public bucket gs://kubric-public/tfds (Apache-2.0), as many as `max_records` needs. Configs are

    c_128           all 24 frames of a video as images, one after another; also a, b, d, e and 256
    c_128_every6    frames 0, 6, 12 and 18; any divisor of 24
    c_128_video     whole videos

Each split ends after `max_records` records. Entity 0 is the background; attributes that change in
time have, in whole videos, the frames as second axis.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from datasets import sources, wire
from datasets.builder import MultiObjectBuilder, Variant, tensors
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream
from datasets.tfrecord import RecordFile

S = TypeVar("S")
T = TypeVar("T")

BUCKET = "https://storage.googleapis.com/kubric-public/tfds"
_RELEASE = "1.0.0"
FRAMES = 24
_STRIDES = (1, 2, 3, 4, 6, 8, 12, 24)
_MAX_OBJECTS = {"a": 10, "b": 10, "c": 10, "d": 23, "e": 23}
_AHEAD = 4  # videos that are decoded at once

_SHAPES = ["cube", "cylinder", "sphere"]
_MATERIALS = ["metal", "rubber"]
_COLORS = ["blue", "brown", "cyan", "gray", "green", "purple", "red", "yellow"]
_MORE_SHAPES = ["cone", "torus", "gear", "torus_knot", "sponge", "spot", "teapot", "suzanne"]
_CATEGORIES = [
    *("Action Figures", "Bag", "Board Games", "Bottles and Cans and Cups", "Camera", "Car Seat"),
    *("Consumer Goods", "Hat", "Headphones", "Keyboard", "Legos", "Media Cases", "Mouse", "None"),
    *("Shoe", "Stuffed Toys", "Toys"),
]


@dataclasses.dataclass(frozen=True)
class _Attribute:
    """How an attribute of the instances is stored by Kubric.

    Attributes:
      stored: its name in the files, below `instances/`.
      shape: of one instance, at one moment if it changes in time.
      names: of its codes, where it is one; code 0 is kept for what is no instance.
      moves: it changes in time.
    """

    stored: str
    shape: tuple[int, ...] = ()
    names: Sequence[str] = ()
    moves: bool = False

    @property
    def dtype(self) -> str:
        return "uint8" if self.names else "float32"


# What all sets have. `pixels` is how many pixels an instance shows.
_COMMON = {
    "position": _Attribute("positions", (3,), moves=True),
    "image_position": _Attribute("image_positions", (2,), moves=True),
    "pixels": _Attribute("visibility", moves=True),
    "mass": _Attribute("mass"),
}
_SCANNED = {
    "category": _Attribute("category", names=_CATEGORIES),
    "scale": _Attribute("scale"),
}
_ATTRIBUTES = {
    "a": {
        "shape": _Attribute("shape_label", names=_SHAPES),
        "size": _Attribute("size_label", names=["small", "large"]),
        "material": _Attribute("material_label", names=_MATERIALS),
        "color": _Attribute("color_label", names=_COLORS),
    },
    "b": {
        "shape": _Attribute("shape_label", names=[*_SHAPES, *_MORE_SHAPES]),
        "material": _Attribute("material_label", names=_MATERIALS),
        "color": _Attribute("color", (3,)),
    },
    "c": _SCANNED,
    "d": {**_SCANNED, "is_dynamic": _Attribute("is_dynamic")},
    "e": {**_SCANNED, "is_dynamic": _Attribute("is_dynamic")},
}


@dataclasses.dataclass(kw_only=True)
class Videos(Variant):
    """A config of MOVi.

    Attributes:
      letter: "a" to "e".
      stride: every so many frames is a record; 0: a record is a whole video.
    """

    letter: str
    stride: int

    @property
    def folder(self) -> str:
        """Where the files are in the bucket."""
        height, width, _ = self.schema.image
        return f"movi_{self.letter}/{width}x{height}/{_RELEASE}"

    @property
    def attributes(self) -> dict[str, _Attribute]:
        return {**_COMMON, **_ATTRIBUTES[self.letter]}


def _variant(letter: str, side: int, stride: int) -> Videos:
    what = f"_every{stride}" if stride > 1 else "" if stride else "_video"
    attributes = {**_COMMON, **_ATTRIBUTES[letter]}
    entities = _MAX_OBJECTS[letter] + 1

    def field(attribute: _Attribute) -> Field:
        time = (FRAMES,) if attribute.moves and not stride else ()
        return Field((entities, *time, *attribute.shape), attribute.dtype)

    boxes = _Attribute("bboxes", (4,), moves=True)
    return Videos(
        name=f"{letter}_{side}{what}",
        description=f"MOVi-{letter.upper()} at {side}x{side} pixels.",
        letter=letter,
        stride=stride,
        schema=Schema(
            name=f"movi/{letter}_{side}{what}",
            image=(side, side, 3),
            num_entities=entities,
            attributes=(
                ("visibility", Field((entities,), "float32")),
                ("box", field(boxes)),
                *((name, field(attribute)) for name, attribute in attributes.items()),
            ),
        ),
        vocabularies={
            name: ["none", *attribute.names]
            for name, attribute in attributes.items()
            if attribute.names
        },
    )


class Movi(MultiObjectBuilder):
    """Videos of objects that fall and collide."""

    VERSION = tfds.core.Version("1.0.0")
    SUBSTITUTE = ""
    BUILDER_CONFIGS = tuple(
        _variant(letter, side, stride)
        for letter in _MAX_OBJECTS
        for side in (128, 256)
        for stride in (*_STRIDES, 0)
    )

    def features(self) -> tfds.features.FeaturesDict:
        variant = self.builder_config
        if variant.stride:
            return super().features()
        height, width, _ = variant.schema.image
        return tensors(
            {
                "video": Field((FRAMES, height, width, 3), "uint8"),
                "segmentation": Field((FRAMES, height, width), "uint8"),
                **dict(variant.schema.attributes),
            }
        )

    def num_records(self) -> int:
        return max(split.num_examples for split in self.info.splits.values())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        variant, source = self.builder_config, self.source
        if source.raw_dir is not None:
            shards = _in_raw_dir(source.raw_dir, variant)
            origin = {"name": variant.folder, "asked": source.max_records, **_fingerprint(shards)}
        else:

            def download(file: str) -> Path:
                url = f"{BUCKET}/{variant.folder}/{file}"
                return sources.find_or_download(self.name, url, source, dl_manager, self.SUBSTITUTE)

            shards = _in_bucket(variant, download("dataset_info.json"), download)
            origin = {"name": variant.folder, "asked": source.max_records}
        return {
            split: _stream(files, variant, source.max_records, origin)
            for split, files in shards.items()
        }

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        try:
            now = _fingerprint(_in_raw_dir(raw_dir, self.builder_config))
        except DatasetError:
            return ""
        before = {name: origin.get(name) for name in now}
        return "" if now == before else f"made from {before}, {raw_dir} has {now}"


class _Shards:
    """The files of a split, in order; some are only there when they are asked for."""

    def __init__(self, names: Sequence[str], find: Callable[[str], Path] = Path) -> None:
        self.names = names
        self._find = find
        self._done = 0
        self._open: RecordFile | None = None

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Every record, and what to call it in an error."""
        for name in self.names:
            self._open = RecordFile(self._find(name))
            for number, record in enumerate(self._open):
                yield self._open.where(number), record
            self._done += 1

    def fraction(self) -> float:
        """How much has been read, in [0, 1]."""
        current = self._open.fraction() if self._open and self._done < len(self.names) else 0
        return min(1.0, (self._done + current) / len(self.names))


def _in_raw_dir(raw_dir: Path, variant: Videos) -> dict[str, _Shards]:
    """The shards of every split.

    Raises:
      DatasetError: there are none, or one is missing.
    """
    pattern = re.compile(rf"movi_{variant.letter}-(\w+)\.tfrecord-(\d{{5}})-of-(\d{{5}})")
    # Both sizes have files of the same names and lie in folders named after the size.
    height, width, _ = variant.schema.image
    places = list(raw_dir.rglob(f"{width}x{height}")) or [raw_dir]
    found: dict[str, dict[int, Path]] = {}
    counts: dict[str, int] = {}
    for path in sorted(path for place in places for path in place.rglob("movi_*")):
        if match := pattern.fullmatch(path.name):
            found.setdefault(match[1], {})[int(match[2])] = path
            counts[match[1]] = int(match[3])
    if not found:
        raise DatasetError(
            f"movi/{variant.name}: {raw_dir} has no movi_{variant.letter}-train.tfrecord-*; get "
            f"{BUCKET}/{variant.folder} or leave config.data.raw_dir out to download it"
        )
    for split, files in found.items():
        for number in range(counts[split]):
            if number not in files:
                name = f"movi_{variant.letter}-{split}.tfrecord-{number:05d}-of-{counts[split]:05d}"
                raise DatasetError(f"movi/{variant.name}: {name} is missing in {raw_dir}")
    return {
        split: _Shards([str(files[number]) for number in sorted(files)])
        for split, files in sorted(found.items())
    }


def _in_bucket(variant: Videos, info: Path, download: Callable[[str], Path]) -> dict[str, _Shards]:
    """The shards of every split, as the published `dataset_info.json` counts them."""
    try:
        splits = {s["name"]: len(s["shardLengths"]) for s in json.loads(info.read_text())["splits"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{info}: not a TFDS dataset_info.json ({error!r})") from error
    return {
        split: _Shards(
            [
                f"movi_{variant.letter}-{split}.tfrecord-{number:05d}-of-{count:05d}"
                for number in range(count)
            ],
            download,
        )
        for split, count in sorted(splits.items())
    }


def _fingerprint(shards: Mapping[str, _Shards]) -> dict[str, int]:
    names = [name for files in shards.values() for name in files.names]
    return {"files": len(names), "bytes": sum(Path(name).stat().st_size for name in names)}


def _stream(
    shards: _Shards, variant: Videos, max_records: int | None, origin: dict[str, Any]
) -> Stream:
    def read(record: tuple[str, bytes]) -> list[Arrays]:
        where, data = record
        with _reading(where, variant):
            return _records(data, variant)

    per_video = len(range(0, FRAMES, variant.stride)) if variant.stride else 1
    videos = None if max_records is None else -(-max_records // per_video)
    needed = itertools.islice(shards.records(), videos)
    examples = itertools.chain.from_iterable(_ahead(read, needed))
    return Stream(itertools.islice(examples, max_records), shards.fraction, origin)


def _ahead(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """`map`, some items ahead: decoding PNG leaves Python's lock alone."""
    items = iter(items)
    with ThreadPoolExecutor(_AHEAD) as pool:
        while batch := list(itertools.islice(items, _AHEAD)):
            yield from pool.map(function, batch)


@contextlib.contextmanager
def _reading(where: str, variant: Videos) -> Iterator[None]:
    """Says which record is not one of the config's."""
    try:
        yield
    except (wire.WireError, _BadVideo) as error:
        reason = error or "no tf.train.Example"
        raise DatasetError(f"{where}: {reason} (reading it as movi/{variant.name})") from error


class _BadVideo(Exception):
    """Why a record is not what it should be."""


class _Features:
    """The features of a serialised Example, decoded when they are asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._found = {name: (kind, span) for name, kind, span in wire.find_features(data)}

    def strings(self, name: str) -> list[bytes]:
        return wire.strings(self._data, self._span(name, wire.BYTES_LIST))

    def numbers(self, name: str) -> np.ndarray:
        """Floats or integers."""
        kind, span = self._found.get(name, (0, (0, 0)))
        if kind == wire.FLOAT_LIST:
            return wire.floats(self._data, span)
        return wire.integers(self._data, self._span(name, wire.INT64_LIST))

    def _span(self, name: str, kind: int) -> wire.Span:
        if name not in self._found:
            raise _BadVideo(f"has no field {name}")
        found, span = self._found[name]
        if found != kind:
            raise _BadVideo(f"{name}: expected {wire.KINDS[kind]}, found {wire.KINDS[found]}")
        return span


def _records(data: bytes, variant: Videos) -> list[Arrays]:
    """A video as its records."""
    features, entities = _Features(data), variant.schema.num_entities
    instances = _instances(features, variant)
    chosen = range(0, FRAMES, variant.stride or 1)
    frames = _frames(features, "video", variant, chosen, "RGB")
    labels = _frames(features, "segmentations", variant, chosen, "L")
    if labels.max() >= entities:
        raise _BadVideo(f"has label {labels.max()}, expected less than {entities}")
    if not variant.stride:
        return [{"video": frames, "segmentation": labels, **instances}]
    moves = {"box"} | {name for name, a in variant.attributes.items() if a.moves}
    return [
        {
            "image": frames[i],
            "segmentation": labels[i],
            **{n: array[:, t] if n in moves else array for n, array in instances.items()},
        }
        for i, t in enumerate(chosen)
    ]


def _frames(
    features: _Features, name: str, variant: Videos, chosen: Iterable[int], mode: str
) -> np.ndarray:
    """Some frames of a list of PNG files, `[T, H, W(, 3)]` uint8."""
    files = features.strings(name)
    if len(files) != FRAMES:
        raise _BadVideo(f"{name}: has {len(files)} frames, expected {FRAMES}")
    return np.stack([_pixels(files[t], name, variant, mode) for t in chosen])


def _pixels(file: bytes, name: str, variant: Videos, mode: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(file)) as picture:
            found, pixels = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError) as error:  # PIL raises SyntaxError for broken chunks
        raise _BadVideo(f"{name}: a frame is not a readable PNG") from error
    height, width, _ = variant.schema.image
    if found != mode or pixels.shape[:2] != (height, width):
        raise _BadVideo(
            f"{name}: {pixels.shape[1]}x{pixels.shape[0]} pixels of mode {found}, expected "
            f"{width}x{height} of mode {mode}"
        )
    return pixels


def _instances(features: _Features, variant: Videos) -> Arrays:
    """Attributes of the entities `[E, ...]`, in time `[E, 24, ...]`; the background is zeros."""
    (count,) = features.numbers("metadata/num_instances")
    entities = variant.schema.num_entities
    if count >= entities:
        raise _BadVideo(f"has {count} instances, expected at most {entities - 1}")
    arrays = {"visibility": (np.arange(entities) <= count).astype(np.float32)}
    arrays["box"] = np.zeros((entities, FRAMES, 4), np.float32)
    arrays["box"][1 : count + 1] = _boxes(features, count)
    for name, attribute in variant.attributes.items():
        time = (FRAMES,) if attribute.moves else ()
        shape = (count, *time, *attribute.shape)
        stored = features.numbers(f"instances/{attribute.stored}")
        if stored.size != np.prod(shape, dtype=int):
            raise _BadVideo(
                f"instances/{attribute.stored}: has {stored.size} values, expected {shape}"
            )
        array = np.zeros((entities, *shape[1:]), attribute.dtype)
        array[1 : count + 1] = stored.reshape(shape) + (1 if attribute.names else 0)
        arrays[name] = array
    return arrays


def _boxes(features: _Features, count: int) -> np.ndarray:
    """Boxes (y0, x0, y1, x1) `[n, 24, 4]`; zeros where an instance is not visible."""
    lengths = features.numbers("instances/bbox_frames/ragged_row_lengths_0")
    moments = features.numbers("instances/bbox_frames/ragged_flat_values")
    boxes = features.numbers("instances/bboxes/ragged_flat_values")
    if len(lengths) != count or lengths.sum() != len(moments) or boxes.size != 4 * len(moments):
        raise _BadVideo(f"instances/bboxes: has {boxes.size} values of {len(moments)} frames")
    if len(moments) and not 0 <= moments.min() <= moments.max() < FRAMES:
        raise _BadVideo(f"instances/bbox_frames: expected frames 0 to {FRAMES - 1}")
    array = np.zeros((count, FRAMES, 4), np.float32)
    array[np.repeat(np.arange(count), lengths), moments] = boxes.reshape(-1, 4)
    return array
