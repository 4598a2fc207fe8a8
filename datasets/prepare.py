"""Turns a dataset's name into prepared data on disk, once, whatever happens on the way.

Everything is written below one staging directory, `<data_dir>/<dataset>/.preparing.<config>`,
whose lock (`flock`, which the kernel drops when its holder dies) says whether it is in use. The
finished version is renamed into place. So a killed run leaves at most a staging directory, the
next run empties it, and of two runs at once the second waits and finds the data ready.
"""

import contextlib
import dataclasses
import errno
import fcntl
import importlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf import json_format

from datasets import partition
from datasets.builder import MultiObjectBuilder
from datasets.errors import DamagedFileError, DatasetError
from datasets.sources import Source

_POLL_SECONDS = 1.0
# What reading damaged notes (dataset_info.json, features.json, metadata.json) raises.
_DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError),
    *(FileNotFoundError, json_format.ParseError),
)


def prepare(
    name: str,
    data_dir: str | os.PathLike[str],
    *,
    raw_dir: str | os.PathLike[str] | None = None,
    max_records: int | None = None,
    seed: int = 0,
    num_processes: int = 1,
    process_index: int = 0,
    skip_bad: bool = False,
) -> Path:
    """Makes sure that `tfds.builder(name, data_dir=data_dir)` can be read.

    Data prepared earlier are kept when they have what is asked for: the seed, and at least
    `max_records` records (they may have more). Otherwise they are replaced.

    Args:
      name: `<dataset>/<config>`, e.g. `tetrominoes/official` or `tetrominoes/procedural`.
      data_dir: where prepared data live; made if needed.
      raw_dir: the directory of the published files; None downloads them to `data_dir/downloads`.
      max_records: the first `max_records` records only; None is all of them.
      seed: of the scenes, for procedural configs.
      num_processes, process_index: how many processes call this at once with the same `data_dir`,
        on one machine or on several, and which of them this one is; each draws its part of a
        procedural config. A published file is prepared by one of them while the others wait.
      skip_bad: pass over pictures of a folder that cannot be read instead of ending.

    Returns:
      The directory of the prepared data.

    Raises:
      DatasetError: unknown name, missing or damaged raw files, unwritable or full `data_dir`.
    """
    if max_records is not None and max_records < 1:
        raise DatasetError(f"max_records={max_records}: expected at least 1, or none for all")
    if not 0 <= process_index < num_processes:
        raise DatasetError(
            f"process_index={process_index}: expected 0 to num_processes - 1 = {num_processes - 1}"
        )
    builder_class, config = _find(name)
    data_dir = Path(data_dir).expanduser().absolute()
    source = Source(
        Path(raw_dir).expanduser() if raw_dir else None, max_records, seed, skip_bad=skip_bad
    )
    parent = data_dir / builder_class.name
    staging = _staging(parent, config)
    try:
        served = _serves(builder_class, config, data_dir, source)
        if served and not staging.exists():
            return _path(builder_class, config, data_dir)
        parts_root = parent / f".parts.{config}"
        drawn = builder_class.builder_configs[config].draw is not None
        if drawn and num_processes > 1 and not served:
            builder = builder_class(config=config, data_dir=staging, source=source)
            directories = partition.directories(parts_root, builder, num_processes)
            _draw_part(builder, process_index, directories)
            source = dataclasses.replace(source, parts=directories)
            _wait_for(directories, lambda: _serves(builder_class, config, data_dir, source))
        with _exclusive(staging):
            if not _serves(builder_class, config, data_dir, source):
                _build(builder_class, config, data_dir, staging, source)
            if parts_root.exists():
                shutil.rmtree(parts_root)
    except OSError as error:
        raise _disk_error(error, data_dir) from error
    return _path(builder_class, config, data_dir)


def _staging(parent: Path, config: str) -> Path:
    """Where a config is prepared: on the disk that it is for, so that it can be renamed there."""
    place = parent / config
    return place.resolve() / ".preparing" if place.is_symlink() else parent / f".preparing.{config}"


def _draw_part(builder: MultiObjectBuilder, part: int, directories: Sequence[Path]) -> None:
    target = directories[part]
    with _exclusive(target.with_name(f".drawing.{part}")) as scratch:
        if not partition.is_complete(target):
            partition.draw(builder, part, len(directories), scratch, target)


def _wait_for(directories: Sequence[Path], served: Callable[[], bool]) -> None:
    """Returns when all parts are drawn, or another process has already put them together."""
    while not all(map(partition.is_complete, directories)) and not served():
        missing = [path.name for path in directories if not partition.is_complete(path)]
        logging.log_every_n_seconds(
            logging.INFO, "waiting for parts %s of %d", 30, ", ".join(missing), len(directories)
        )
        time.sleep(_POLL_SECONDS)


def _find(name: str) -> tuple[type[MultiObjectBuilder], str]:
    dataset, _, config = name.partition("/")
    known = importlib.util.find_spec(f"datasets.{dataset}") if dataset.isidentifier() else None
    if known is not None:
        importlib.import_module(f"datasets.{dataset}")
    if known is None or dataset not in tfds.list_builders(with_community_datasets=False):
        raise DatasetError(f"dataset={name!r}: there is no datasets/{dataset}.py with a builder")
    builder_class = tfds.builder_cls(dataset)
    if hasattr(builder_class, "variant"):  # has no list of configs: one is made for each name
        known = {v.name: v for v in builder_class.BUILDER_CONFIGS}
        known[config] = builder_class.variant(config)
        builder_class.BUILDER_CONFIGS = tuple(known.values())
        return builder_class, config
    configs = [variant.name for variant in builder_class.BUILDER_CONFIGS]
    if config not in configs:
        options = ", ".join(f"{dataset}/{known}" for known in configs)
        raise DatasetError(f"dataset={name!r}: not one of {options}")
    return builder_class, config


def _path(builder_class: type[MultiObjectBuilder], config: str, data_dir: Path) -> Path:
    return data_dir / builder_class.name / config / str(builder_class.VERSION)


def _serves(
    builder_class: type[MultiObjectBuilder], config: str, data_dir: Path, source: Source
) -> bool:
    """Whether what is prepared has what `source` asks for."""
    path = _path(builder_class, config, data_dir)
    if not (path / "dataset_info.json").exists():
        return False
    try:
        builder = builder_class(config=config, data_dir=data_dir)
        reason = _damage(builder)
        origin = builder.info.metadata["origin"]
        reason = reason or _mismatch(builder, origin, builder.num_records(), source)
    except _DAMAGE as error:
        reason = f"its notes are damaged ({type(error).__name__})"
    if reason:
        logging.info("%s: %s; preparing it again", path, reason)
    return not reason


def _damage(builder: MultiObjectBuilder) -> str:
    """What is wrong with the prepared files; empty if all can be opened and are whole."""
    for split in builder.info.splits.values():
        for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
            if not os.path.isfile(path):
                return f"{Path(path).name} is missing"
            try:
                found = ArrayRecordReader(str(path)).num_records()
            except RuntimeError as error:  # what array_record says of damage
                return f"{Path(path).name} is damaged ({str(error).splitlines()[0]})"
            if found != count:
                return f"{Path(path).name} has {found} records, not {count}"
    return ""


def _mismatch(builder: MultiObjectBuilder, origin: dict, count: int, source: Source) -> str:
    """Why prepared data do not have what `source` asks for; empty if it has."""
    if builder.builder_config.draw is not None:
        wanted = builder.builder_config.num_drawn(source.max_records)
        if origin["seed"] != source.seed:
            return f"drawn with seed {origin['seed']}, asked for {source.seed}"
        return f"has {count} scenes, asked for {wanted}" if count < wanted else ""
    if origin.get("skipped") and not source.skip_bad:
        return f"lacks {origin['skipped']} records that were skipped"
    whole_file = origin["asked"] is None or count < origin["asked"]
    if not whole_file and (source.max_records is None or count < source.max_records):
        return f"has {count} records, asked for {source.max_records or 'all'}"
    return builder.changed(origin, source.raw_dir) if source.raw_dir else ""


def _build(
    builder_class: type[MultiObjectBuilder],
    config: str,
    data_dir: Path,
    staging: Path,
    source: Source,
) -> None:
    """Prepares below `staging`, then moves the result into place."""
    builder = builder_class(config=config, data_dir=staging, source=source)
    downloads = staging / "downloads"
    if builder.downloads:  # these outlive the staging directory: they took hours
        downloads = data_dir / "downloads" / builder_class.name / config
        for partial in downloads.rglob("*.tmp.*"):
            shutil.rmtree(partial)
    try:
        builder.download_and_prepare(download_dir=downloads, file_format="array_record")
    except DamagedFileError:
        if builder.downloads:
            shutil.rmtree(downloads)  # so that the next run downloads it again
        raise
    final = _path(builder_class, config, data_dir)
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        final.rename(staging / "replaced")
    _path(builder_class, config, staging).rename(final)


@contextlib.contextmanager
def _exclusive(staging: Path) -> Iterator[Path]:
    """Holds an empty directory `staging` that no other process uses; removes it afterwards."""
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(staging, os.O_RDONLY)
        try:
            _lock(descriptor, staging)
            if not _is_still(staging, descriptor):
                continue  # its holder finished and removed it while we waited
            _empty(staging)
            try:
                yield staging
            finally:
                _empty(staging)
                staging.rmdir()
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, staging: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logging.info("another process prepares %s; waiting for it", staging.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _disk_error(error: OSError, data_dir: Path) -> DatasetError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DatasetError(f"data_dir={str(data_dir)!r}: the disk is full; free some, or move it")
    return DatasetError(
        f"data_dir={str(data_dir)!r}: {error.strerror or error} ({error.filename or 'no file'});"
        " choose a directory that can be written"
    )
