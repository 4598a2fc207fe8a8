"""ImageNet (Russakovsky et al. 2015), or any images in one folder per class.

`raw_dir` has `train/CLASS/*` and `val/CLASS/*` in JPEG or PNG, as the published archives are
commonly unpacked; there is nothing to download, since ImageNet needs an account. The config's
number is the side S of the stored squares: the image's short side is resized to S (bilinear, with
antialiasing), then the centre is cut out. Classes are numbered in the order of their folders'
names. "train" is in one random order, so that slices of it are random samples; "validation" in that
of the names.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from datasets.builder import MultiObjectBuilder, Variant, tensors
from datasets.errors import DamagedFileError, DatasetError
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

SIZES = (64, 128, 288)
_FOLDERS = {"train": "train", "validation": "val"}
_ENDINGS = (".jpeg", ".jpg", ".png")
_BATCH = 64  # images that threads decode at a time
_SEED = 0  # of the order of train

Labelled = tuple[Path, int]


class ImagenetFolder(MultiObjectBuilder):
    """Images of many classes, cut to squares."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(
            name=str(size),
            description=f"Squares of {size} pixels.",
            schema=Schema(
                name=f"imagenet_folder/{size}",
                image=(size, size, 3),
                num_entities=0,
                attributes=(("label", Field((), "uint16")),),
            ),
        )
        for size in SIZES
    )

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record: image and label."""
        schema = self.builder_config.schema
        return tensors({"image": Field(schema.image, "uint8"), **dict(schema.attributes)})

    def num_records(self) -> int:
        return max(split.num_examples for split in self.info.splits.values())

    @property
    def downloads(self) -> bool:
        return False

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        del dl_manager
        raw_dir = self.source.raw_dir
        if raw_dir is None:
            raise DatasetError(
                "imagenet_folder: set config.data.raw_dir to the directory that has"
                " train/CLASS/*.JPEG and val/CLASS/*.JPEG"
            )
        classes = sorted(path.name for path in raw_dir.glob("train/*") if path.is_dir())
        if not classes:
            raise DatasetError(f"imagenet_folder: {raw_dir}/train has no folders, one per class")
        self.info.metadata["vocabularies"] = {"label": classes}
        origin = {"name": "images", "asked": self.source.max_records, "files": _count(raw_dir)}
        return {
            split: self._stream(_images(raw_dir / folder, classes, split == "train"), origin)
            for split, folder in _FOLDERS.items()
        }

    def _stream(self, images: Sequence[Labelled], origin: dict[str, Any]) -> Stream:
        images, done = images[: self.source.max_records], 0
        size = self.builder_config.schema.image[0]

        def examples() -> Iterator[Arrays]:
            nonlocal done
            with ThreadPoolExecutor(4) as pool:  # decoding leaves Python's lock alone
                for start in range(0, len(images), _BATCH):
                    some = images[start : start + _BATCH]
                    pixels = pool.map(lambda image: square(image[0], size), some)
                    for (_, label), image in zip(some, pixels, strict=True):
                        yield {"image": image, "label": np.asarray(label, np.uint16)}
                        done += 1

        return Stream(examples(), lambda: done / max(len(images), 1), origin)

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        count = _count(raw_dir)
        if count in (0, origin["files"]):
            return ""
        return f"made from {origin['files']} files, {raw_dir} has {count}"


def square(path: Path, size: int) -> np.ndarray:
    """The centre of an image, `[size, size, 3]`, after its short side is resized to `size`.

    Raises:
      DamagedFileError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises SyntaxError for broken chunks
        raise DamagedFileError(f"{path}: not a readable image ({error})") from error
    width, height = image.size
    short = min(width, height)
    width, height = int(size * width / short), int(size * height / short)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.suffix.lower() in _ENDINGS]


def _count(raw_dir: Path) -> int:
    return sum(len(_files(raw_dir / folder)) for folder in _FOLDERS.values())


def _images(folder: Path, classes: Sequence[str], shuffled: bool) -> list[Labelled]:
    """The images of a folder with their labels, in the order of their names or in a random one."""
    number = {name: label for label, name in enumerate(classes)}
    files = sorted(_files(folder))
    for path in files:
        if path.parent.name not in number:
            raise DatasetError(f"{path}: train has no folder {path.parent.name}")
    if not files:
        raise DatasetError(f"imagenet_folder: {folder} has no images CLASS/*.JPEG")
    order = np.random.default_rng(_SEED).permutation(len(files)) if shuffled else range(len(files))
    return [(files[i], number[files[i].parent.name]) for i in order]
