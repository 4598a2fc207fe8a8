"""ClevrTex: three to ten textured objects on a textured ground (Karazija et al. 2021).

Published as PNG and JSON files, `clevrtex_<variant>` folders in `clevrtex_<variant>*.tar.gz`;
`raw_dir` may hold either. Splits by index as the authors': the first tenth is test, the second
validation, the rest train; `outd` is all test. The names of the archives of full, outd and camo are
those of published download scripts; those of pbg, vbg and grassbg are inferred from the folders'.
"""

import contextlib
import hashlib
import json
import re
import shutil
import struct
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, PngImagePlugin
from zlib_ng import gzip_ng, zlib_ng

from datasets import sources
from datasets.builder import MultiObjectBuilder, Variant
from datasets.errors import DamagedFileError, DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

HOST = "https://thor.robots.ox.ac.uk/datasets/clevrtex"
_PARTS = {"full": tuple(f"_part{number}" for number in range(1, 6))}  # the others are one archive
_DESCRIPTIONS = {
    "full": "Every object and the ground in one of 60 materials.",
    "pbg": "Plain ground.",
    "vbg": "Plain CLEVR-like objects on varied ground.",
    "grassbg": "All on grass.",
    "camo": "Objects and ground of a scene in one material.",
    "outd": "Out of distribution: other shapes and 25 other materials.",
}
_NUM_ENTITIES = 11
_KINDS = (".png", "_flat.png", ".json")  # of the files of a scene those that are read
_BATCH = 64
_NAMED = ("material", "shape", "size", "color")  # attributes that are names in the JSON files

SCHEMA = Schema(
    name="clevrtex",
    image=(240, 320, 3),
    num_entities=_NUM_ENTITIES,
    attributes=tuple(
        [(name, Field((_NUM_ENTITIES,), "uint8")) for name in _NAMED]
        + [(name, Field((_NUM_ENTITIES,), "float32")) for name in ("rotation", "visibility")]
        + [(name, Field((_NUM_ENTITIES, 3), "float32")) for name in ("coords", "pixel_coords")]
    ),
)

Scene = dict[str, Path]  # one file for each of _KINDS


# What libraries raise of damaged content, besides their own classes.
_BROKEN = (
    *(EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(MemoryError, struct.error, zlib.error),
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_SAMPLED = 256  # scenes whose content is compared with what was prepared
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # Blender's scripts write more than Pillow's 1 MB


class Clevrtex(MultiObjectBuilder):
    """Textured objects on a textured ground; entity 0 has the ground's material."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(name=name, description=text, schema=SCHEMA) for name, text in _DESCRIPTIONS.items()
    )

    def _generate_splits(self, *args: Any) -> list[tfds.core.SplitInfo]:
        beside = Path(self.data_dir).parent
        with tempfile.TemporaryDirectory(prefix=".unpacked", dir=beside) as scratch:
            self._scratch = Path(scratch)
            return super()._generate_splits(*args)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        variant = self.builder_config.name
        archives, folder = self._find(dl_manager)
        if archives:
            _unpack(archives, self._scratch)
            folder = self._scratch
        scenes = _find_scenes(folder, variant)[: self.source.max_records]
        vocabularies = _vocabularies(scenes)
        self.info.metadata["vocabularies"] = vocabularies
        origin = {"name": str(folder.name), "asked": self.source.max_records}
        origin |= _fingerprint(archives, folder, variant)
        return {
            split: _stream(scenes[part], vocabularies, origin)
            for split, part in _splits(variant, len(scenes)).items()
        }

    def _find(self, dl_manager: tfds.download.DownloadManager) -> tuple[list[Path], Path]:
        """The archives to unpack, or none and the folder that holds the files."""
        variant, raw_dir = self.builder_config.name, self.source.raw_dir
        if raw_dir is None:
            urls = _urls(variant)
            substitute = f", or draw clevrtex_like/{variant}"
            return [
                sources.find_or_download(self.name, url, self.source, dl_manager, substitute)
                for url in urls
            ], self._scratch
        archives, folder = _in_raw_dir(raw_dir, variant)
        if not archives and folder is None:
            raise DatasetError(
                f"clevrtex: raw_dir={raw_dir} has neither a folder nor archives"
                f" clevrtex_{variant}*.tar.gz; get them from {HOST} or draw clevrtex_like/{variant}"
            )
        return archives, folder or self._scratch

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        archives, folder = _in_raw_dir(raw_dir, self.builder_config.name)
        if not archives and folder is None:
            return ""
        now = _fingerprint(archives, folder, self.builder_config.name)
        before = {name: origin.get(name, now[name]) for name in now}  # old data have no sample
        return "" if now == before else f"made from {before}, {raw_dir} has {now}"


def _urls(variant: str) -> list[str]:
    return [f"{HOST}/clevrtex_{variant}{part}.tar.gz" for part in _PARTS.get(variant, ("",))]


def _in_raw_dir(raw_dir: Path, variant: str) -> tuple[list[Path], Path | None]:
    """Archives and folder of a variant; a folder goes before archives."""
    for folder in (raw_dir / f"clevrtex_{variant}", raw_dir):
        if next(folder.rglob(f"CLEVRTEX_{variant}_*.json"), None):
            return [], folder
    return sorted(raw_dir.glob(f"clevrtex_{variant}*.tar.gz")), None


def _fingerprint(archives: Sequence[Path], folder: Path | None, variant: str) -> dict[str, Any]:
    if archives:
        prints = [sources.fingerprint(path) for path in archives]
        samples = "".join(p["sample"] for p in prints)
        digest = hashlib.sha256(samples.encode()).hexdigest()
        total = sum(p["bytes"] for p in prints)
        return {"files": len(archives), "bytes": total, "sample": digest}
    files = sorted(folder.rglob(f"CLEVRTEX_{variant}_*.json"))
    digest = hashlib.sha256()
    for place in np.linspace(0, max(len(files) - 1, 0), _SAMPLED).astype(int):
        for file in files[place : place + 1]:
            digest.update(file.read_bytes())
    return {"files": len(files), "bytes": 0, "sample": digest.hexdigest()}


def _unpack(archives: Sequence[Path], target: Path) -> None:
    """Unpacks the files that are read, each by its bare name."""
    for archive in archives:
        try:
            with (
                gzip_ng.open(archive, "rb") as stream,
                tarfile.open(fileobj=stream, mode="r|") as tar,
            ):
                for member in tar:
                    name = Path(member.name).name
                    if member.isfile() and re.fullmatch(r"CLEVRTEX_\w+?_\d{6}(_flat)?\.\w+", name):
                        with (target / name).open("wb") as out:
                            shutil.copyfileobj(tar.extractfile(member), out)
                while stream.read(1 << 20):  # to the checksum, which comes after tar's own end
                    pass
        except (*_BROKEN, tarfile.TarError, gzip_ng.BadGzipFile, zlib_ng.error) as error:
            raise DamagedFileError(
                f"{archive}: truncated, damaged or no tar.gz ({error}); get it again"
            ) from error


def _find_scenes(folder: Path, variant: str) -> list[Scene]:
    """The files of scenes 0, 1, ...

    Raises:
      DatasetError: there are none, or a file is missing.
    """
    pattern = re.compile(rf"CLEVRTEX_{variant}_(\d{{6}})(\.png|_flat\.png|\.json)")
    found: dict[int, Scene] = {}
    for path in folder.rglob("CLEVRTEX_*"):
        if (match := pattern.fullmatch(path.name)) and path.is_file():
            files = found.setdefault(int(match[1]), {})
            if match[2] in files:
                raise DatasetError(f"{path}: is there twice, also as {files[match[2]]}; remove one")
            files[match[2]] = path
    if not found:
        raise DatasetError(f"{folder}: no file is named CLEVRTEX_{variant}_000000.png or the like")
    for index in range(max(found) + 1):
        missing = set(_KINDS) - found.get(index, {}).keys()
        if missing:
            name = f"CLEVRTEX_{variant}_{index:06d}{min(missing)}"
            raise DatasetError(f"{folder}: {name} is missing, scenes go on to {max(found)}")
    return [found[index] for index in range(len(found))]


def _splits(variant: str, count: int) -> dict[str, slice]:
    if variant == "outd":
        return {"test": slice(0, count)}
    test, validation = int(0.1 * count), int(0.2 * count)
    parts = {
        "train": slice(validation, count),
        "validation": slice(test, validation),
        "test": slice(0, test),
    }
    return {split: part for split, part in parts.items() if part.start < part.stop}


def _stream(
    scenes: Sequence[Scene], vocabularies: Mapping[str, list[str]], origin: dict[str, Any]
) -> Stream:
    codes = {
        field: {name: code for code, name in enumerate(names)}
        for field, names in vocabularies.items()
    }
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        with ThreadPoolExecutor(4) as pool:  # PNG decoding leaves Python's lock alone
            for start in range(0, len(scenes), _BATCH):
                for example in pool.map(
                    lambda scene: _read(scene, codes), scenes[start : start + _BATCH]
                ):
                    yield example
                    done += 1

    return Stream(examples(), lambda: done / max(len(scenes), 1), origin)


def _read(scene: Scene, codes: Mapping[str, Mapping[str, int]]) -> Arrays:
    """One scene with the fields of `SCHEMA`."""
    image = _pixels(scene[".png"], ("RGB", "RGBA"))[..., :3]
    labels = _pixels(scene["_flat.png"], ("P", "L"))
    attributes = _attributes(scene[".json"], codes)
    num_objects = int(attributes["visibility"].sum()) - 1
    if labels.max() > num_objects:
        raise DatasetError(
            f"{scene['_flat.png']}: has label {labels.max()}, its .json lists {num_objects} objects"
        )
    return {"image": np.ascontiguousarray(image), "segmentation": labels, **attributes}


def _pixels(path: Path, modes: Sequence[str]) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.mode not in modes or picture.size != SCHEMA.image[1::-1]:
                    raise DatasetError(
                        f"{path}: {picture.width}x{picture.height} pixels of mode {picture.mode},"
                        f" expected 320x240 of mode {' or '.join(modes)}"
                    )
                return np.asarray(picture)
    # Pillow raises SyntaxError for broken chunks, and its own classes for bombs.
    except (OSError, SyntaxError, *_BROKEN, *_BOMBS) as error:
        raise DatasetError(f"{path}: not a readable PNG ({_line(error)})") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[dict[str, Any]]:
    """The content of a scene's JSON file; what is wrong with it becomes a DatasetError."""
    try:
        yield json.loads(path.read_bytes())
    except (OSError, RecursionError, *_BROKEN) as error:
        reason = f"{type(error).__name__}: {_line(error)}"
        raise DatasetError(f"{path}: not a ClevrTex scene ({reason})") from error


def _attributes(path: Path, codes: Mapping[str, Mapping[str, int]]) -> Arrays:
    arrays = {
        name: np.zeros(field.shape, np.dtype(field.dtype)) for name, field in SCHEMA.attributes
    }
    arrays["visibility"][0] = 1
    with _reading(path) as scene:
        arrays["material"][0] = codes["material"][scene["ground_material"]]
        if len(scene["objects"]) >= _NUM_ENTITIES:
            raise ValueError(f"{len(scene['objects'])} objects, expected at most 10")
        for entity, item in enumerate(scene["objects"], 1):
            for name in _NAMED:
                if item.get(name) is not None:
                    arrays[name][entity] = codes[name][item[name]]
            arrays["rotation"][entity] = item["rotation"]
            arrays["coords"][entity] = item["3d_coords"]
            arrays["pixel_coords"][entity] = item["pixel_coords"]
            arrays["visibility"][entity] = 1
    return arrays


def _vocabularies(scenes: Sequence[Scene]) -> dict[str, list[str]]:
    """All names that occur, in alphabetical order after `none`."""
    names: dict[str, set[str]] = {field: set() for field in _NAMED}
    for files in scenes:
        with _reading(files[".json"]) as scene:
            names["material"].add(scene["ground_material"])
            for item in scene["objects"]:
                for field in _NAMED:
                    if item.get(field) is not None:
                        names[field].add(item[field])
    return {field: ["none", *sorted(values)] for field, values in names.items()}
