"""What every builder here shares: ordered, streaming, TensorFlow-free TFDS preparation.

TFDS's own generator path sorts a split that must keep its order in memory (30 GB for CLEVR with
masks); here shards are written as the records come, and the order is theirs.
"""

import contextlib
import dataclasses
import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from datasets import multi_object, progress
from datasets.errors import DatasetError
from datasets.schemas import Schema
from datasets.tfrecord import RecordFile

BUCKET = "https://storage.googleapis.com/multi-object-datasets"
SHARD_BYTES = 256 << 20  # serialised, before compression
# Level 1 writes CLEVR twice as fast as the default level 3, for files 12 % larger.
_WRITER_OPTIONS = "group_size:1,zstd:1"
_BATCH = 256  # scenes drawn at once; does not change them

_NETWORK_TIMEOUT = 10.0  # seconds

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """What `prepare` was asked for; it identifies the prepared data.

    Attributes:
      raw_dir: where the published files lie; None downloads them.
      max_records: prepare the first so many records; None is all of them.
      seed: which endless set of scenes procedural variants draw from.
    """

    raw_dir: Path | None = None
    max_records: int | None = None
    seed: int = 0


@dataclasses.dataclass(kw_only=True)
class Variant(tfds.core.BuilderConfig):
    """One config of a builder.

    Attributes:
      schema: fields of the records, and for published data the file they come from.
      draw: for procedural data, `draw(seed, index [N]) -> {field: array [N, ...]}`.
      num_scenes: for procedural data, how many scenes unless `max_records` says otherwise.
      vocabularies: names of the codes of an attribute, `{field: [name of code 0, ...]}`.
    """

    schema: Schema
    draw: Callable[[int, np.ndarray], Arrays] | None = None
    num_scenes: int = 0
    vocabularies: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Stream:
    """The examples of one split, in order.

    Attributes:
      examples: one dict of arrays each.
      fraction: how much has been read or drawn, in [0, 1].
      origin: what the metadata say of where they come from.
    """

    examples: Iterable[Arrays]
    fraction: Callable[[], float]
    origin: dict[str, Any]


class MultiObjectBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose configs are `Variant`s and whose splits are `Stream`s."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: Source = Source(), **kwargs: Any):
        self.source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        variant = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=_features(variant.schema),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                background_ids=list(range(variant.schema.num_background)),
                ignore_ids=[],
                num_entities=variant.schema.num_entities,
                vocabularies=dict(variant.vocabularies),
                procedural=variant.draw is not None,
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        variant = self.builder_config
        if variant.draw is not None:
            return {"train": drawn(variant.draw, self.source, variant.num_scenes)}
        path = find_or_download(self, variant.schema.file, dl_manager)
        return {"train": published(path, variant.schema, self.source.max_records)}

    @property
    def downloads(self) -> bool:
        """Whether preparing fetches published files."""
        return self.builder_config.draw is None and self.source.raw_dir is None

    def changed(self, origin: dict[str, Any], source: Source) -> str:
        """Why published data prepared from `origin` are not those in `source.raw_dir`, if so."""
        if source.raw_dir is None:
            return ""
        path = _in_raw_dir(source.raw_dir, self.builder_config.schema.file)
        if path is None or path.stat().st_size == origin["bytes"]:
            return ""
        return f"made from {origin['bytes']} bytes, {path} has {path.stat().st_size}"

    def _log_download_bytes(self) -> None:
        """TFDS would print sizes it does not know; `progress` tells what happens."""

    _log_download_done = _log_download_bytes

    def _generate_examples(self, **kwargs: Any) -> None:
        raise NotImplementedError("splits are Streams, see _split_generators")

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> list[tfds.core.SplitInfo]:
        streams = self._split_generators(dl_manager)
        infos = [self._write_split(split, stream) for split, stream in streams.items()]
        self.info.metadata["origin"] = {split: stream.origin for split, stream in streams.items()}
        return infos

    def _write_split(self, split: str, stream: Stream) -> tfds.core.SplitInfo:
        template = self._get_filename_template(split_name=split)
        specs = self.info.features.get_tensor_info()
        shards = _Shards(Path(self.data_dir))
        for example in progress.track(
            stream.examples, f"{self.name}/{self.builder_config.name} {split}", stream.fraction
        ):
            shards.write(serialize(example, specs))
        shards.close()
        if not shards.lengths:
            raise DatasetError(f"{stream.origin['name']}: holds no records")
        for number, path in enumerate(shards.paths):
            path.rename(template.sharded_filepath(shard_index=number, num_shards=len(shards.paths)))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=shards.lengths,
            num_bytes=shards.num_bytes,
            filename_template=template,
        )


def serialize(example: Arrays, specs: Mapping[str, Any]) -> bytes:
    """What TFDS's ExampleSerializer makes of `Tensor(encoding=BYTES)` features, four times faster.

    Raises:
      AssertionError: a bug of ours, an array is not what the features promise.
    """
    proto = tf_example_pb2.Example()
    feature = proto.features.feature
    for name, spec in specs.items():
        array = example[name]
        if array.shape != spec.shape or array.dtype != spec.np_dtype:
            raise AssertionError(f"{name}: {array.shape} {array.dtype}, promised {spec}")
        feature[name].bytes_list.value.append(array.tobytes())
    return proto.SerializeToString()


class _Shards:
    """Writes serialised examples to numbered ArrayRecord files, a new one when one is full."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._writer: ArrayRecordWriter | None = None
        self._room = 0
        self.paths: list[Path] = []
        self.lengths: list[int] = []
        self.num_bytes = 0

    def write(self, data: bytes) -> None:
        if self._writer is None or self._room < len(data):
            self.close()
            self.paths.append(self._directory / f"shard-{len(self.paths)}")
            self.lengths.append(0)
            self._writer = ArrayRecordWriter(str(self.paths[-1]), _WRITER_OPTIONS)
            self._room = SHARD_BYTES
        with _disk_errors():
            self._writer.write(data)
        self._room -= len(data)
        self.num_bytes += len(data)
        self.lengths[-1] += 1

    def close(self) -> None:
        if self._writer is not None:
            with _disk_errors():
                self._writer.close()
            self._writer = None


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """ArrayRecord's RuntimeError as the OSError it stands for."""
    try:
        yield
    except RuntimeError as error:
        full = os.strerror(errno.ENOSPC) in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def drawn(draw: Callable[[int, np.ndarray], Arrays], source: Source, num_scenes: int) -> Stream:
    """Scenes 0, 1, ... of `source.seed`, in index order."""
    count = source.max_records or num_scenes
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for start in range(0, count, _BATCH):
            scenes = draw(source.seed, np.arange(start, min(start + _BATCH, count)))
            for i in range(len(scenes["image"])):
                yield {name: values[i] for name, values in scenes.items()}
                done += 1

    origin = {"name": "drawn", "seed": source.seed, "asked": count}
    return Stream(examples(), lambda: done / count, origin)


def published(path: Path, schema: Schema, max_records: int | None) -> Stream:
    """The first `max_records` records of a published file, in file order."""
    file = RecordFile(path)
    examples = itertools.islice(multi_object.decode(file, schema), max_records)
    origin = {"name": path.name, "bytes": file.size, "asked": max_records}
    return Stream(map(_as_rgb, examples), file.fraction, origin)


def _as_rgb(record: Arrays) -> Arrays:
    """One grey channel becomes three equal ones."""
    if record["image"].shape[-1] == 3:
        return record
    return record | {"image": np.repeat(record["image"], 3, axis=-1)}


def find_or_download(
    builder: MultiObjectBuilder, file: str, dl_manager: tfds.download.DownloadManager
) -> Path:
    """The path of `file`, a path inside the bucket: in `raw_dir`, or downloaded without one.

    Raises:
      DatasetError: it is not there; says where it was looked for and where to get it.
    """
    url = f"{BUCKET}/{file}"
    remedy = f"get {url}, set config.data.raw_dir to its directory, or use :procedural"
    raw_dir = builder.source.raw_dir
    if raw_dir is not None:
        path = _in_raw_dir(raw_dir, file)
        if path is None:
            raise DatasetError(f"{builder.name}: looked for {file} in raw_dir={raw_dir}; {remedy}")
        return path
    try:
        # The manager retries for minutes; without a network one question is enough.
        requests.head(url, timeout=_NETWORK_TIMEOUT).raise_for_status()
        return Path(dl_manager.download(url))
    except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(
            f"{builder.name}: raw_dir is not set and the download failed"
            f" ({type(error).__name__}); {remedy}"
        ) from error


def _in_raw_dir(raw_dir: Path, file: str) -> Path | None:
    """`file` directly in `raw_dir` or, as in the bucket, in the dataset's directory there."""
    candidates = (raw_dir / Path(file).name, raw_dir / file)
    return next((path for path in candidates if path.exists()), None)


def _features(schema: Schema) -> tfds.features.FeaturesDict:
    def tensor(shape: tuple[int, ...], dtype: str) -> tfds.features.Tensor:
        return tfds.features.Tensor(
            shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
        )

    height, width, _ = schema.image
    return tfds.features.FeaturesDict(
        {
            "image": tensor((height, width, 3), "uint8"),
            "segmentation": tensor((height, width), "uint8"),
            **{name: tensor(field.shape, field.dtype) for name, field in schema.attributes},
        }
    )
