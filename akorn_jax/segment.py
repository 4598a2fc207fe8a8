"""Segments anyone's pictures with a trained model: label maps, overlays, boxes, COCO.

Memory is bounded by one batch. What is done is skipped when the same command runs again.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from akorn_jax import evaluate
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import segmentation
from akorn_jax.evaluation.plots import PALETTE
from akorn_jax.evaluation.predict import predict
from akorn_jax.outputs import ModelOutput
from akorn_jax.pretrained import Pretrained
from akorn_jax.runtime import progress, storage
from akorn_jax.score.label_maps import run_lengths

Array = np.ndarray

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
OPACITY = 0.5  # of the colours over a picture


def segment(
    config: ConfigDict, workdir: epath.Path, images: str, out: Path, *, skip_bad: bool = False
) -> Path:
    """Segments pictures at their own size.

    Writes `OUT/labels/NAME.png` (ids, up to 16 bits), `OUT/overlays/NAME.jpg`,
    `OUT/objects.jsonl` (per picture: file, size, and of each segment id, area, box as (y0, x0, y1,
    x1) in pixels, and the mean of its mask where the model gives masks, else null) and
    `OUT/coco.json`.

    Args:
        config: of the run; `config.eval` as in an evaluation.
        workdir: of the run.
        images: a folder, or a pattern such as "DIR/*.jpg"; `**` is every folder below.
        out: OUT.
        skip_bad: name pictures that cannot be read and go on, instead of ending.

    Raises:
        UserError: no picture, one that cannot be read, or OUT cannot be written.
    """
    checkpoint = evaluate.restore(config, workdir)
    run = Pretrained(
        config, checkpoint.model, checkpoint.task, checkpoint.step, checkpoint.task_state
    )
    root, files = find(images)
    try:
        for folder in (out / "labels", out / "overlays"):
            folder.mkdir(parents=True, exist_ok=True)
        notes = out / "objects.jsonl"
        done = _done(notes)
        left = [file for file in files if str(file.relative_to(root)) not in done]
        logging.info("%d pictures, %d of them done before.", len(files), len(files) - len(left))
        with progress.bar(len(files), len(files) - len(left)) as bar:
            for number, batch in enumerate(_batches(left, config.eval.batch_size)):
                _segment_batch(run, root, batch, out, notes, skip_bad)
                bar.update(len(files) - len(left) + min(len(left), (number + 1) * len(batch)))
        storage.write(epath.Path(out / "coco.json"), json.dumps(coco(out)).encode())
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror}).") from error
    return out


def find(images: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the pictures, sorted.

    Raises:
        UserError: there is none.
    """
    path = Path(images).expanduser()
    if path.is_dir():
        root, found = path, list(path.rglob("*"))
    else:
        root = Path(str(path).partition("*")[0].partition("?")[0])
        root = root if root.is_dir() else root.parent
        found = [Path(p) for p in glob(str(path), recursive=True)]
    found = sorted(p for p in found if p.suffix.lower() in ENDINGS and p.is_file())
    if not found:
        raise UserError(f"--images={images}: no picture ({', '.join(ENDINGS)}) is there.")
    return root, found


def read(path: Path) -> Array:
    """A picture as `[H, W, 3]` uint8: turned as its EXIF says, any mode, 16 bits scaled.

    Raises:
        UserError: it cannot be read; the line names it.
    """
    broken = (OSError, SyntaxError, ValueError, EOFError, MemoryError, TypeError, IndexError)
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "TIFF":
                raise ValueError("it is animated")
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I") or picture.mode == "F":
                levels = np.asarray(picture).astype(np.float64)
                top = 65535 if picture.mode.startswith("I") else max(levels.max(), 1e-12)
                picture = Image.fromarray(
                    np.rint(255 * np.clip(levels / top, 0, 1)).astype(np.uint8)
                )
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            return np.asarray(picture.convert("RGB"))
    except (*broken, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: cannot be read ({reason}); remove it or use --skip_bad."
        ) from error


def labels_of(run: Pretrained, pictures: Sequence[Array]) -> list[tuple[Array, Array | None]]:
    """Label maps at the pictures' own sizes, and of each the mean mask of every id (or None).

    Pictures are resized to the model's input, and label maps back by the nearest pixel.
    """
    height, width = _input_size(run.config)
    inputs = np.stack(
        [
            np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR))
            for p in pictures
        ]
    )
    count = len(inputs)
    examples = Examples(inputs, None, {}, np.arange(count), np.zeros(count))
    kept = predict(
        *(run.model, run.task, examples, run.config),
        step=run.step,
        task_state=run.task_state,
        reduce=_with_confidence,
    )
    outputs = list(kept)
    confidence = [c for output in outputs for c in output.get("confidence", ())]
    maps = segmentation.label_maps(iter(outputs), examples, run.config).labels
    found = []
    for i, (labels, picture) in enumerate(zip(maps, pictures, strict=True)):
        ids = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
        means = None
        if confidence:
            sums = np.bincount(ids.ravel(), _fit(confidence[i], ids.shape).ravel())
            means = sums / np.bincount(ids.ravel())
        found.append((_fit(ids, picture.shape[:2]), means))
    return found


def coco(out: Path) -> dict[str, Any]:
    """All that was segmented, in COCO's format of instances."""
    images, annotations = [], []
    for number, line in enumerate((out / "objects.jsonl").read_text().splitlines(), 1):
        note = json.loads(line)
        images.append(
            {
                "id": number,
                "file_name": note["file"],
                "height": note["height"],
                "width": note["width"],
            }
        )
        with Image.open(out / "labels" / f"{note['file']}.png") as picture:
            labels = np.asarray(picture)
        for item in note["objects"]:
            y0, x0, y1, x1 = item["box"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": run_lengths(labels == item["id"]),
                    "area": item["area"],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "score": item["score"],
                }
            )
    categories = [{"id": 1, "name": "segment"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _segment_batch(
    run: Pretrained, root: Path, batch: Sequence[Path], out: Path, notes: Path, skip_bad: bool
) -> None:
    pictures: dict[Path, Array] = {}
    for file in batch:
        try:
            pictures[file] = read(file)
        except UserError as error:
            if not skip_bad:
                raise
            logging.warning("%s", error)
    if not pictures:
        return
    found = labels_of(run, list(pictures.values()))
    for (file, picture), (labels, means) in zip(pictures.items(), found, strict=True):
        name = str(file.relative_to(root))
        for folder in ("labels", "overlays"):
            (out / folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = np.uint8 if labels.max() < 256 else np.uint16
        Image.fromarray(labels.astype(kind)).save(out / "labels" / f"{name}.png")
        colors = PALETTE[labels % len(PALETTE)]
        overlay = np.rint((1 - OPACITY) * picture + OPACITY * colors).astype(np.uint8)
        Image.fromarray(overlay).save(out / "overlays" / f"{name}.jpg", quality=90)
        height, width = labels.shape
        objects = [_object(labels, i, means) for i in np.unique(labels)]
        note = {"file": name, "height": height, "width": width, "objects": objects}
        with notes.open("a") as lines:
            lines.write(json.dumps(note) + "\n")


def _object(labels: Array, number: int, means: Array | None) -> dict[str, Any]:
    rows, columns = (np.flatnonzero((labels == number).any(axis)) for axis in (1, 0))
    return {
        "id": int(number),
        "area": int((labels == number).sum()),
        "box": [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1],
        "score": None if means is None else round(float(means[number]), 4),
    }


def _with_confidence(output: ModelOutput, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """What segmentation keeps, and the largest mask of each pixel."""
    found = segmentation.segments(output, batch)
    if output.masks is not None:
        found["confidence"] = jnp.max(output.masks, axis=1)  # [B, H, W]
    return found


def _input_size(config: ConfigDict) -> tuple[int, int]:
    size = config.model.get("image_size", config.data.size)
    if size is None:
        raise UserError("config.data.size is not set, so the model's input has no known size.")
    return (size, size) if isinstance(size, int) else tuple(size)


def _fit(array: Array, size: tuple[int, int]) -> Array:
    """A map resized by the nearest pixel."""
    rows = (np.arange(size[0]) + 0.5) * array.shape[0] / size[0]
    columns = (np.arange(size[1]) + 0.5) * array.shape[1] / size[1]
    return array[np.floor(rows).astype(int)[:, None], np.floor(columns).astype(int)]


def _done(notes: Path) -> set[str]:
    """The pictures that are noted; a last line that a killed run left cut is removed."""
    if not notes.exists():
        return set()
    whole = []
    for line in notes.read_text().splitlines():
        try:
            whole.append((json.loads(line)["file"], line))
        except (ValueError, KeyError, TypeError):
            logging.warning("%s: a damaged line is left out.", notes)
    storage.write(epath.Path(notes), "".join(f"{line}\n" for _, line in whole).encode())
    return {name for name, _ in whole}


def _batches(files: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for number in range(math.ceil(len(files) / size)):
        yield files[number * size : (number + 1) * size]
