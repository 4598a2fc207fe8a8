"""Where the records of a split come from: a published file, or synthetic scenes."""

import dataclasses
import errno
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds

from datasets import multi_object
from datasets.errors import DatasetError
from datasets.schemas import Schema
from datasets.tfrecord import RecordFile

_NETWORK_TIMEOUT = 10.0  # seconds

Arrays = dict[str, np.ndarray]
Draw = Callable[[int, np.ndarray], Arrays]  # draw(seed, index [N]) -> {field: array [N, ...]}

_SAMPLE, _SAMPLES = 1 << 16, 64  # bytes, and how many such pieces of a file are compared


@dataclasses.dataclass(frozen=True)
class Source:
    """What `prepare` was asked for; it identifies the prepared data.

    Attributes:
      raw_dir: where the published files lie; None downloads them.
      max_records: prepare the first `max_records` records; None is all of them.
      seed: which endless set of scenes procedural variants draw from.
      parts: directories of scenes that processes have drawn each its part of; see `parts`.
      skip_bad: pass over files of a folder that cannot be read, with a warning.
    """

    raw_dir: Path | None = None
    max_records: int | None = None
    seed: int = 0
    parts: tuple[Path, ...] = ()
    skip_bad: bool = False


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


def drawn(draw: Draw, scenes: range, seed: int, batch: int) -> Stream:
    """Scenes of `seed` in index order, drawn `batch` at once."""
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for start in range(scenes.start, scenes.stop, batch):
            for example in draw_examples(draw, seed, range(start, min(start + batch, scenes.stop))):
                yield example
                done += 1

    origin = {"name": "drawn", "seed": seed, "asked": scenes.stop}
    return Stream(examples(), lambda: done / len(scenes), origin)


def draw_examples(draw: Draw, seed: int, scenes: range) -> Iterator[Arrays]:
    """The examples of a few scenes, drawn at once."""
    arrays = draw(seed, np.arange(scenes.start, scenes.stop))
    for i in range(len(scenes)):
        yield as_rgb({name: values[i] for name, values in arrays.items()})


def published(path: Path, schema: Schema, max_records: int | None) -> Stream:
    """The first `max_records` records of a published file, in file order."""
    file = RecordFile(path)
    examples = itertools.islice(multi_object.decode(file, schema), max_records)
    origin = {"name": path.name, "asked": max_records, **fingerprint(path)}
    return Stream(map(as_rgb, examples), file.fraction, origin)


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells a file from another in its place: its size, and a digest of samples of it."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        for place in np.linspace(0, max(size - _SAMPLE, 0), _SAMPLES).astype(int):
            file.seek(int(place))
            digest.update(file.read(_SAMPLE))
    return {"bytes": size, "sample": digest.hexdigest()}


def as_rgb(record: Arrays) -> Arrays:
    """One grey channel becomes three equal ones; boards of a puzzle have no image."""
    if "image" not in record or record["image"].shape[-1] == 3:
        return record
    return record | {"image": np.repeat(record["image"], 3, axis=-1)}


def find_or_download(
    name: str, url: str, source: Source, dl_manager: tfds.download.DownloadManager, substitute: str
) -> Path:
    """The path of the file at `url`: found in `source.raw_dir`, or downloaded if that is not set.

    Args:
      name: of the dataset, for the error.
      url: of a public file.
      source: what was asked for.
      dl_manager: of TFDS.
      substitute: what to use instead, for the error.

    Raises:
      DatasetError: it is not there; says where it was looked for and where to get it.
    """
    remedy = f"get {url}, set config.data.raw_dir to its directory{substitute}"
    if source.raw_dir is not None:
        path = in_raw_dir(source.raw_dir, url)
        if path is None:
            places = " nor ".join(map(str, _places(source.raw_dir, url)))
            raise DatasetError(f"{name}: there is neither {places}; {remedy}")
        return path
    try:
        if not _is_cached(url, dl_manager):
            # The manager retries for minutes; without a network one question is enough.
            requests.head(url, timeout=_NETWORK_TIMEOUT, allow_redirects=True).raise_for_status()
        return Path(dl_manager.download(url))
    except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(
            f"{name}: config.data.raw_dir is not set and the download failed"
            f" ({type(error).__name__}); {remedy}"
        ) from error


def _is_cached(url: str, dl_manager: tfds.download.DownloadManager) -> bool:
    """Whether an earlier run has downloaded it: TFDS keeps an INFO file beside each file."""
    return any(url in info.read_text() for info in Path(dl_manager.download_dir).rglob("*.INFO"))


def in_raw_dir(raw_dir: Path, url: str) -> Path | None:
    """The file at `url` in `raw_dir` or, as in the public bucket, in a directory there."""
    return next((path for path in _places(raw_dir, url) if path.is_file()), None)


def _places(raw_dir: Path, url: str) -> tuple[Path, Path]:
    directory, file = url.split("/")[-2:]
    return raw_dir / file, raw_dir / directory / file
