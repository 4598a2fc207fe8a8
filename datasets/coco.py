"""Masks in COCO's format of instances: polygons, run lengths plain or compressed, crowds."""

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from absl import logging

from datasets import pictures
from datasets.errors import DatasetError

Array = np.ndarray
FIELDS = ("images", "annotations")


@dataclasses.dataclass(frozen=True)
class Coco:
    """The annotations of a folder's pictures, by picture.

    Attributes:
      sizes: (height, width) that the file gives each picture.
      annotations: of each picture, in their order.
      sources: the file that tells of a picture.
    """

    sizes: dict[Path, tuple[int, int]]
    annotations: dict[Path, list[dict[str, Any]]]
    sources: dict[Path, Path]

    def objects(self, path: Path, height: int, width: int) -> list[tuple[Array, bool]]:
        """Of each object of a picture of this size, its mask `[H, W]` and whether it is a crowd.

        Raises:
          DatasetError: the file does not tell of it, tells of another size, or a mask is wrong.
        """
        if path not in self.sizes:
            raise DatasetError(f"{path}: the COCO files have no image of this name")
        if self.sizes[path] != (height, width):
            raise DatasetError(
                f"{path}: is {height}x{width} as its EXIF turns it, but {self.sizes[path][0]}x"
                f"{self.sizes[path][1]} in {self.sources[path]}"
            )
        found = []
        for annotation in self.annotations[path]:
            what = f"annotation {annotation.get('id')} of {path.name}"
            with pictures.naming(self.sources[path], f"COCO masks at {what}"):
                region = decode(annotation["segmentation"], height, width)
                found.append((region, bool(annotation.get("iscrowd", 0))))
        return found


def is_coco(path: Path) -> bool:
    """Whether a JSON file lists images and annotations; others may lie in a folder too.

    Raises:
      DatasetError: it is no JSON.
    """
    content = _load(path)
    return isinstance(content, dict) and all(isinstance(content.get(f), list) for f in FIELDS)


def read(
    files: Sequence[Path], folder: Path, found: Collection[Path], *, skip_bad: bool = False
) -> Coco:
    """The annotations of pictures of a folder.

    Args:
      files: in COCO's format; each picture is in one of them.
      folder: what `file_name` is relative to; a name that is not there is looked for in all
        folders below, as in COCO's own `train2017/` beside `annotations/`.
      found: the pictures that there are.
      skip_bad: pass over images that are not there, with a warning.

    Raises:
      DatasetError: an image is not there, is there twice or has a name that leaves the folder; an
        annotation is of no image; fields are missing.
    """
    result = Coco({}, {}, {})
    places: dict[str, list[Path]] = {}
    for path in found:
        places.setdefault(path.name, []).append(path)
    for file in files:
        with pictures.naming(file, "COCO masks"):
            content, known, missing = _load(file), {}, []
            for image in content["images"]:
                path = _place(image["file_name"], folder, places)
                known[image["id"]] = path
                if path is None:
                    missing.append(image["file_name"])
                    continue
                if path in result.sizes:
                    raise ValueError(f"{image['file_name']} is listed twice")
                result.sizes[path] = (int(image["height"]), int(image["width"]))
                result.annotations[path] = []
                result.sources[path] = file
            for annotation in content["annotations"]:
                key = annotation["image_id"]
                if key not in known:
                    raise ValueError(f"annotation {annotation.get('id')} is of unknown image {key}")
                if known[key] is not None:
                    result.annotations[known[key]].append(annotation)
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            line = f"{file}: tells of {', '.join(missing[:3])}{more}, not there below {folder}"
            if not skip_bad:
                raise DatasetError(f"{line}; use --skip_bad to go on without")
            logging.warning("%s", line)
    return result


def decode(segmentation: Any, height: int, width: int) -> Array:
    """A COCO segmentation as bool `[H, W]`: polygons, or run lengths, plain or compressed.

    Raises:
      ValueError, KeyError, TypeError: it is none, or of another size.
    """
    if isinstance(segmentation, list):
        from pycocotools import mask as coco_mask

        for polygon in segmentation:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)
            size = np.array([width, height])
            # The rasteriser's memory grows with the outline, so points far out are refused.
            if len(points) < 3 or not ((points >= -size) & (points <= 2 * size)).all():
                raise ValueError("a polygon has fewer than three points, or leaves the picture")
        if not segmentation:
            raise ValueError("it has no mask")
        shapes = coco_mask.frPyObjects(segmentation, height, width)
        return coco_mask.decode(coco_mask.merge(shapes)).astype(bool)
    counts = segmentation["counts"]
    runs = np.asarray(_decompress(counts) if isinstance(counts, str) else counts)
    if not np.issubdtype(runs.dtype, np.integer) or (runs < 0).any():
        raise ValueError("run lengths are not counts")
    if list(segmentation["size"]) != [height, width] or runs.sum() != height * width:
        raise ValueError(f"run lengths do not fill {height}x{width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T  # columns one after another


def _decompress(text: str) -> list[int]:
    """COCO's string of run lengths: five bits a character, from the third on as differences.

    pycocotools reads beyond its memory where the lengths do not fill the picture.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{character!r} in run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _load(path: Path) -> Any:
    with pictures.naming(path, "JSON"):
        try:
            return json.loads(path.read_bytes())
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def _place(name: str, folder: Path, places: dict[str, list[Path]]) -> Path | None:
    """The picture of a `file_name`; None where there is none."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts:
        raise ValueError(f"file_name {name!r} leaves the folder")
    exact = folder.joinpath(*parts)
    candidates = [p for p in places.get(parts[-1], ()) if p.parts[-len(parts) :] == parts]
    if exact in candidates:
        return exact
    if len(candidates) > 1:
        raise ValueError(f"file_name {name!r} fits {len(candidates)} pictures")
    return candidates[0] if candidates else None
