"""Anyone's pictures: a folder is a dataset.

`folder/<key>` reads all pictures below a folder, whose path and the wanted size make the key
(`key_of`): PNG, JPEG, WebP, TIFF or BMP of any mode and size, turned as their EXIF says, scaled so
that the shorter side fits and cut to the middle square. Masks are optional: `masks/NAME.png` of
`NAME.jpg`, a palette or grey label map where 0 is the background, or a folder `masks/NAME/` with a
PNG per object. Pictures are split by a hash of their path: 80 % train, 10 % validation, 10 % test,
and stay where they are when others come. What is prepared is prepared again when a file changes.
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from datasets.builder import MultiObjectBuilder, Variant
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MASKS = "masks"
MAX_OBJECTS = 32  # that a record has room for
SPLITS = {"train": range(80), "validation": range(80, 90), "test": range(90, 100)}  # % of hashes


class Folder(MultiObjectBuilder):
    """Pictures of a folder, with masks where there are any."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = ()  # made for each folder by `variant`

    @tfds.core.utils.classproperty
    @classmethod
    def builder_configs(cls) -> dict[str, Variant]:
        """By name; TFDS's own would not see those that are made later."""
        return {variant.name: variant for variant in cls.BUILDER_CONFIGS}

    @classmethod
    def variant(cls, key: str) -> Variant:
        """The config of a key, which holds the size and whether there are masks.

        Raises:
          DatasetError: it is no key.
        """
        name, _, size = key.removesuffix(f"_{MASKS}").rpartition("_")
        if not name or not size.isdecimal() or int(size) < 1:
            raise DatasetError(
                f"dataset='folder/{key}': set config.data.name=folder, config.data.raw_dir to the "
                "folder and config.data.size to the side of the pictures"
            )
        side = int(size)
        schema = Schema(
            name="folder",
            image=(side, side, 3),
            num_entities=MAX_OBJECTS + 1,
            attributes=(("visibility", Field((MAX_OBJECTS + 1,), "float32")),),
        )
        return Variant(name=key, description="Pictures of a folder.", schema=schema)

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record, without masks where the folder has none."""
        fields = dict(super().features())
        if not self.builder_config.name.endswith(f"_{MASKS}"):
            del fields["segmentation"], fields["visibility"]
        return tfds.features.FeaturesDict(fields)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        del dl_manager
        folder, size = self._folder(), self.builder_config.schema.image[0]
        files = pictures(folder)[: self.source.max_records]
        origin = {"name": folder.name, "asked": self.source.max_records, **fingerprint(folder)}
        parts = {name: [f for f in files if part_of(f, folder) == name] for name in SPLITS}
        for name, found in parts.items():
            if not found:  # of a few pictures, one at least for each part
                parts[name] = files[-1:]
        return {name: _stream(found, folder, size, origin) for name, found in parts.items()}

    def _folder(self) -> Path:
        if self.source.raw_dir is None:
            raise DatasetError("folder: set config.data.raw_dir to the folder of the pictures")
        return self.source.raw_dir

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        """See the base class: by the names, sizes and times of all files."""
        now = fingerprint(raw_dir)
        before = {name: origin.get(name) for name in now}
        return "" if now == before else f"{raw_dir} has changed"

    @property
    def downloads(self) -> bool:
        """Nothing is fetched."""
        return False


def key_of(folder: Path, size: int | None) -> str:
    """The name of what is prepared of a folder at a size.

    Raises:
      DatasetError: there is no such folder, or no size.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise DatasetError(
            f"config.data.raw_dir={folder}: no such folder; give that of your pictures"
        )
    if not size:
        raise DatasetError("folder: set config.data.size to the side of the model's images")
    name = "".join(c if c.isalnum() else "-" for c in folder.name)[:40] or "root"
    masks = f"_{MASKS}" if (folder / MASKS).is_dir() else ""
    return f"{name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}_{size}{masks}"


def pictures(folder: Path) -> list[Path]:
    """All pictures, sorted by path; masks are none.

    Raises:
      DatasetError: there is none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and MASKS not in path.relative_to(folder).parts[:1]
        and path.is_file()
    )
    if not found:
        raise DatasetError(f"{folder}: holds no picture ({', '.join(ENDINGS)})")
    return found


def part_of(path: Path, folder: Path) -> str:
    """The split of a picture, by its path alone."""
    place = zlib.crc32(path.relative_to(folder).as_posix().encode()) % 100
    return next(name for name, places in SPLITS.items() if place in places)


def fingerprint(folder: Path) -> dict[str, Any]:
    """What tells the folder from itself after a change."""
    digest = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return {"files": len(files), "content": digest.hexdigest()}


def _stream(files: Sequence[Path], folder: Path, size: int, origin: dict[str, Any]) -> Stream:
    done = 0

    def examples() -> Iterator[Arrays]:
        nonlocal done
        for path in files:
            yield _example(path, folder, size)
            done += 1

    return Stream(examples(), lambda: done / len(files), origin)


def _example(path: Path, folder: Path, size: int) -> Arrays:
    picture = _opened(path)
    example = {"image": np.asarray(_square(picture, size, Image.Resampling.BILINEAR))}
    if (folder / MASKS).is_dir():
        labels = _labels(path, folder, picture.size)
        labels = np.asarray(_square(Image.fromarray(labels), size, Image.Resampling.NEAREST))
        count = int(labels.max())
        visibility = np.zeros(MAX_OBJECTS + 1, np.float32)
        visibility[: count + 1] = 1
        example |= {"segmentation": labels, "visibility": visibility}
    return example


def _square(picture: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    return ImageOps.fit(picture, (size, size), resampling)


def _opened(path: Path) -> Image.Image:
    """A picture as RGB, on white where it is transparent."""
    try:
        with Image.open(path) as picture:
            if getattr(picture, "is_animated", False):
                raise ValueError("it is animated")
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):
                levels = np.asarray(picture).astype(np.float64) / 257
                picture = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return picture.convert("RGB")
    except (*_BROKEN, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path}: cannot be read as a picture ({reason}); remove it") from error


# What Pillow raises of damaged files, besides its own class for bombs.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, MemoryError, TypeError, IndexError)


def _labels(path: Path, folder: Path, size: tuple[int, int]) -> np.ndarray:
    """The label map `[H, W]` uint8 of a picture; ids become 0, 1, ... in their order.

    Raises:
      DatasetError: there is none, or it does not fit the picture.
    """
    stem = folder / MASKS / path.relative_to(folder).with_suffix("")
    file = stem.with_name(f"{stem.name}.png")
    if file.is_file():
        labels = _ids(file, size)
    elif stem.is_dir():
        labels = np.zeros(size[::-1], np.int64)
        for number, mask in enumerate(sorted(stem.glob("*.png")), 1):
            labels[_ids(mask, size) > 0] = number
    else:
        raise DatasetError(f"{path}: has no mask; neither {file} nor {stem} is there")
    found = np.unique(labels)
    if found[0] < 0 or len(found[found > 0]) > MAX_OBJECTS:
        raise DatasetError(
            f"{file}: has ids {found[0]} to {found[-1]}, at most {MAX_OBJECTS} objects fit"
        )
    return np.searchsorted(np.union1d([0], found), labels).astype(np.uint8)


def _ids(path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L", "1", "I", "I;16"):
                raise ValueError(f"mode {picture.mode} has no ids; save a palette or grey map")
            if picture.size != size:
                raise ValueError(f"it is {picture.size}, the picture {size}")
            return np.asarray(picture).astype(np.int64)
    except (*_BROKEN, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path}: cannot be read as a mask ({reason})") from error
