"""What every builder here shares: ordered, streaming, TensorFlow-free TFDS preparation.

TFDS's own generator path sorts a split that must keep its order in memory (30 GB for CLEVR with
masks); here shards are written as the records come, and the order is theirs.

Procedural variants can also be drawn on a cluster, by Beam on the runner of your choice:

    builder = tfds.builder("clevr_with_masks/procedural", data_dir=..., source=Source(seed=0))
    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(
            beam_runner="DataflowRunner", beam_options=PipelineOptions(...)
        ),
    )
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets import beam, hdf5, partition, progress, sources
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.shards import Serializer, Shards, ShardWriter
from datasets.sources import Draw, Source, Stream

BUCKET = "https://storage.googleapis.com/multi-object-datasets"


@dataclasses.dataclass(kw_only=True)
class Variant(tfds.core.BuilderConfig):
    """One config of a builder.

    Attributes:
      schema: fields of the records, and for published data the file they come from.
      draw: for procedural data, `draw(seed, index [N]) -> {field: array [N, ...]}`.
      num_scenes: for procedural data, how many scenes unless `max_records` says otherwise.
      batch: how many are drawn at once; does not change them.
      endless: there are scenes after these; otherwise `max_records` can only ask for fewer.
      vocabularies: names of the codes of an attribute, `{field: [name of code 0, ...]}`.
    """

    schema: Schema
    draw: Draw | None = None
    num_scenes: int = 0
    batch: int = 256
    endless: bool = True
    vocabularies: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)

    def num_drawn(self, max_records: int | None) -> int:
        """How many scenes are drawn when `max_records` are asked for."""
        count = max_records or self.num_scenes
        return count if self.endless else min(count, self.num_scenes)


class MultiObjectBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose configs are `Variant`s and whose splits are `Stream`s."""

    VERSION = tfds.core.Version("1.0.0")
    SUBSTITUTE = ", or use the variant :procedural"  # what to do without the published file

    def __init__(self, *, source: Source | None = None, **kwargs: Any):
        self.source = source or Source()
        self._use_beam = False
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        variant = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=self.features(),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                background_ids=list(range(variant.schema.num_background)),
                ignore_ids=list(variant.schema.ignore_ids),
                num_entities=variant.schema.num_entities,
                vocabularies=dict(variant.vocabularies),
                procedural=variant.draw is not None,
            ),
        )

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record."""
        schema = self.builder_config.schema
        height, width, _ = schema.image
        return tensors(
            {
                "image": Field((height, width, 3), "uint8"),
                "segmentation": Field((height, width), "uint8"),
                **dict(schema.attributes),
            }
        )

    def num_records(self) -> int:
        """How many of the records that `max_records` counts are prepared."""
        return sum(split.num_examples for split in self.info.splits.values())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        variant = self.builder_config
        if variant.draw is None:
            return {"train": self._published(dl_manager)}
        if self._use_beam:
            return {"train": beam.transform(variant.draw, self.scenes, self.source.seed)}
        return {"train": self.stream(self.scenes)}

    def _published(self, dl_manager: tfds.download.DownloadManager) -> Stream:
        schema, source = self.builder_config.schema, self.source
        path = self._in_raw_dir(source.raw_dir) if source.raw_dir else None
        if path is None:
            path = sources.find_or_download(
                self.name, self._url, source, dl_manager, self.SUBSTITUTE
            )
        read = hdf5.copied if path.suffix == ".h5" else sources.published
        return read(path, schema, source.max_records)

    def _in_raw_dir(self, raw_dir: Path) -> Path | None:
        """The published file or, where there is only that, its copy as HDF5."""
        file = self.builder_config.schema.file
        urls = [self._url, *([hdf5.copy_of(file)] if file else [])]
        return next(filter(None, (sources.in_raw_dir(raw_dir, url) for url in urls)), None)

    @property
    def scenes(self) -> range:
        """The scenes of a procedural variant."""
        return range(self.builder_config.num_drawn(self.source.max_records))

    def stream(self, scenes: range) -> Stream:
        """Some scenes of a procedural variant."""
        variant = self.builder_config
        return sources.drawn(variant.draw, scenes, self.source.seed, variant.batch)

    @property
    def _url(self) -> str:
        return f"{BUCKET}/{self.builder_config.schema.file}"

    @property
    def downloads(self) -> bool:
        """Whether preparing fetches published files."""
        return self.builder_config.draw is None and self.source.raw_dir is None

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        """Why published data prepared from `origin` are not those in `raw_dir`; empty if they are
        or there are none."""
        path = self._in_raw_dir(raw_dir)
        if path is None:
            return ""
        now = sources.fingerprint(path)
        before = {name: origin.get(name, now[name]) for name in now}  # old data have no sample
        return "" if now == before else f"made from another file than {path}"

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
        self._use_beam = bool(download_config.beam_runner or download_config.beam_options)
        if self._use_beam:
            return self._generate_with_beam(dl_manager, download_config)
        splits = self._split_generators(dl_manager)
        infos = [self._write_split(split, stream) for split, stream in splits.items()]
        self.info.metadata["origin"] = next(iter(splits.values())).origin
        return infos

    def _generate_with_beam(self, *args: Any) -> list[tfds.core.SplitInfo]:
        """TFDS's own way: draws on the runner that `download_config` names."""
        if self.builder_config.draw is None:
            raise DatasetError(
                f"{self.name}/{self.builder_config.name}: Beam draws procedural variants only;"
                " a published file is read in order by one process"
            )
        infos = super()._generate_splits(*args)
        self.info.metadata["origin"] = self.stream(self.scenes).origin
        return infos

    def _write_split(self, split: str, stream: Stream) -> tfds.core.SplitInfo:
        template = self._get_filename_template(split_name=split)
        if self.source.parts:
            shards = partition.collect(self.source.parts, Path(self.data_dir))
        else:
            shards = self.write(stream, split, Path(self.data_dir))
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

    def write(self, stream: Stream, title: str, directory: Path) -> Shards:
        """Writes a stream to shards in `directory`, with a progress bar."""
        title = f"{self.name}/{self.builder_config.name} {title}"
        serialize = Serializer(self.info.features.get_tensor_info())
        writer = ShardWriter(directory)
        for example in progress.track(stream.examples, title, stream.fraction):
            writer.write(serialize(example))
        return writer.close()


def tensors(fields: Mapping[str, Field]) -> tfds.features.FeaturesDict:
    """Arrays of fixed shapes, stored as bytes."""
    return tfds.features.FeaturesDict(
        {
            name: tfds.features.Tensor(
                shape=field.shape,
                dtype=np.dtype(field.dtype),
                encoding=tfds.features.Encoding.BYTES,
            )
            for name, field in fields.items()
        }
    )
