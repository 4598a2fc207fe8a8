"""Segments anyone's pictures with a trained model: label maps, overlays, boxes, COCO.

Memory is bounded by one picture and a batch at the model's size. What is done is skipped when the
same command runs again, and comes out as if it had not been interrupted.
"""

import io
import json
import re
import struct
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from scipy import ndimage

from akorn_jax import evaluate, run_config
from akorn_jax.errors import UserError
from akorn_jax.evaluation.pictures import Segmenter
from akorn_jax.evaluation.plots import colorize
from akorn_jax.pretrained import Pretrained
from akorn_jax.runtime import progress, storage

Array = np.ndarray

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
ANIMATIONS = ("PNG", "WEBP", "GIF")  # formats whose further frames are an animation
OPACITY = 0.5  # of the colours over a picture
NOTES, COCO, RUN = "objects.jsonl", "coco.json", "run.json"


def segment(
    config: ConfigDict, workdir: epath.Path, images: str, out: Path, *, skip_bad: bool = False
) -> Path:
    """Segments pictures at their own size.

    Of `DIR/NAME.jpg` it writes

    * `OUT/labels/NAME.png`, ids, grey of 8 or 16 bits,
    * `OUT/overlays/NAME.jpg`,
    * a line of `OUT/objects.jsonl`: its file, height and width, and of each segment the id, area,
      box as (y0, x0, y1, x1) in pixels, score in [0, 1] (`evaluation.pictures.Segments`) and
      COCO's run lengths,

    and of all `OUT/coco.json` and `OUT/run.json`, what they were segmented with.

    Args:
        config: of the run; `config.eval` as in an evaluation.
        workdir: of the run.
        images: a folder, or a pattern such as "DIR/*.jpg"; `**` is every folder below.
        out: OUT.
        skip_bad: name pictures that cannot be read and go on, instead of ending.

    Raises:
        UserError: no picture, two of one name, one that cannot be read, OUT cannot be written or
            holds segments of another run.
    """
    root, files = find(images)
    checkpoint = evaluate.restore(config, workdir)
    run = Pretrained(
        config, checkpoint.model, checkpoint.task, checkpoint.step, checkpoint.task_state
    )
    skipped = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / NOTES).touch()
        check_same(out, run, workdir, root)
        done = _done(out, root)
        left = {file for file in files if str(file.relative_to(root)) not in done}
        logging.info("%d pictures, %d of them done before.", len(files), len(files) - len(left))
        count = len(files) - len(left)
        with run.segmenter() as segmenter, progress.bar(len(files), count, "picture") as bar:
            for first in range(0, len(files), segmenter.batch_size):
                some = files[first : first + segmenter.batch_size]
                batch = {place: file for place, file in enumerate(some) if file in left}
                if batch:
                    skipped += len(batch) - _segment_batch(
                        segmenter, batch, first, root, out, skip_bad=skip_bad
                    )
                    count += len(batch)
                    bar.update(count)
        write_coco(out)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror}).") from error
    if skipped:
        logging.warning("%d of %d pictures were skipped; they are named above.", skipped, count)
    return out


def find(images: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the pictures, sorted.

    Raises:
        UserError: there is none, or two differ in their ending alone.
    """
    path = Path(images).expanduser()
    if path.is_dir():
        root, found = path, list(path.rglob("*"))
    elif path.is_file():
        root, found = path.parent, [path]
    else:
        fixed = re.split(r"[*?\[]", str(path))[0]
        root = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
        found = [Path(p) for p in glob(str(path), recursive=True)]
    found = sorted(p for p in found if p.suffix.lower() in ENDINGS and p.is_file())
    if not found:
        raise UserError(f"--images={images}: no picture ({', '.join(ENDINGS)}) is there.")
    names: dict[Path, Path] = {}
    for file in found:
        other = names.setdefault(file.with_suffix(""), file)
        if other != file:
            raise UserError(f"{file}: {other.name} would be written under the same name; rename.")
    return root, found


def read(path: Path) -> Array:
    """A picture as `[H, W, 3]` uint8: turned as its EXIF says, any mode, 16 bits scaled.

    The same as the pictures of a folder that a model is trained on.

    Raises:
        UserError: it cannot be read; the line names it.
    """
    broken = (
        *(OSError, SyntaxError, ValueError, EOFError, MemoryError, TypeError, LookupError),
        *(AttributeError, ArithmeticError, struct.error, Image.DecompressionBombError),
    )
    try:
        with Image.open(path) as picture:
            if picture.format in ANIMATIONS and getattr(picture, "n_frames", 1) > 1:
                raise ValueError("it is animated")
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I") or picture.mode == "F":
                picture = _in_bytes(picture)
            if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            return np.asarray(picture.convert("RGB"))
    except broken as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path}: cannot be read ({reason}); mend or remove it, or use --skip_bad."
        ) from error


def check_same(out: Path, run: Pretrained, workdir: epath.Path, root: Path) -> None:
    """Notes what OUT is made with; refuses one that was made with something else.

    Raises:
        UserError: naming what differs.
    """
    config = run_config.to_dict(run.config)
    ways = {name: config["eval"][name] for name in ("seed", "batch_size", "up_tiling", "pca")}
    now = {
        "run": str(Path(str(workdir)).absolute()) if "://" not in str(workdir) else str(workdir),
        "step": run.step,
        "images": str(root.absolute()),
        "num_clusters": config["data"]["num_clusters"],
        **{f"eval.{name}": value for name, value in ways.items()},
        "eval.options": config["eval"]["options"],
        **{f"model.{name}": value for name, value in config["model"].items()},
    }
    file = out / RUN
    if file.exists():
        try:
            before = json.loads(file.read_bytes())
            wrong = next((n for n in now if now[n] != before.get(n)), None)
        except (ValueError, AttributeError) as error:
            raise UserError(f"{file} is damaged; choose another --out.") from error
        if wrong is not None:
            raise UserError(
                f"--out={out}: holds segments of {wrong}={before.get(wrong)!r}, not {now[wrong]!r};"
                " choose another."
            )
    storage.write(epath.Path(file), json.dumps(now, indent=2).encode())


def write_coco(out: Path) -> None:
    """Writes all that was segmented in COCO's format of instances, line by line."""
    partial = out / f".{COCO}"
    with partial.open("w") as file:
        for kind, rows in (("images", _images), ("annotations", _annotations)):
            file.write(f'{"{" if kind == "images" else ","}\n"{kind}": [')
            for number, row in enumerate(rows(out / NOTES)):
                file.write(f"{',' * (number > 0)}\n{json.dumps(row)}")
            file.write("]")
        file.write(',\n"categories": [{"id": 1, "name": "segment"}]}\n')
    partial.replace(out / COCO)


def _images(notes: Path) -> Iterator[dict[str, Any]]:
    for number, note in enumerate(_lines(notes), 1):
        size = {"height": note["height"], "width": note["width"]}
        yield {"id": number, "file_name": note["file"], **size}


def _annotations(notes: Path) -> Iterator[dict[str, Any]]:
    count = 0
    for number, note in enumerate(_lines(notes), 1):
        size = [note["height"], note["width"]]
        for item in note["objects"]:
            count += 1
            y0, x0, y1, x1 = item["box"]
            yield {
                "id": count,
                "image_id": number,
                "category_id": 1,
                "segmentation": {"size": size, "counts": item["counts"]},
                "area": item["area"],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": item["score"],
            }


def _segment_batch(
    segmenter: Segmenter,
    batch: Mapping[int, Path],
    first: int,
    root: Path,
    out: Path,
    *,
    skip_bad: bool,
) -> int:
    """Segments some pictures of a batch, by their places; returns how many could be read."""
    inputs = {}
    for place, file in batch.items():
        try:
            inputs[place] = segmenter.scaled(read(file))
        except UserError as error:
            if not skip_bad:
                raise
            logging.warning("skipped: %s", error)
    if not inputs:
        return 0
    for place, segments in zip(inputs, segmenter.batch(inputs, first), strict=True):
        file = batch[place]
        picture = read(file)  # again: a batch of large ones would not fit
        labels = segments.at(picture.shape[:2])
        name = file.relative_to(root)
        kind = np.uint8 if labels.max() < 256 else np.uint16
        _save(Image.fromarray(labels.astype(kind)), out / "labels" / name.with_suffix(".png"))
        overlay = Image.blend(Image.fromarray(picture), Image.fromarray(colorize(labels)), OPACITY)
        _save(overlay, out / "overlays" / name.with_suffix(".jpg"))
        height, width = labels.shape
        objects = describe(labels, segments.scores)
        note = {"file": name.as_posix(), "height": height, "width": width, "objects": objects}
        with (out / NOTES).open("a") as lines:
            lines.write(json.dumps(note) + "\n")
    return len(inputs)


def describe(labels: Array, scores: Mapping[int, float]) -> list[dict[str, Any]]:
    """Id, area, box, score and COCO's compressed run lengths of each segment of a label map."""
    found = []
    for number, box in enumerate(ndimage.find_objects(labels + 1)):
        if box is None:
            continue
        rows, columns = box
        mask = labels == number
        counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        found.append(
            {
                "id": number,
                "area": int(mask[box].sum()),
                "box": [rows.start, columns.start, rows.stop, columns.stop],
                "score": round(scores[number], 4),
                "counts": counts.decode(),
            }
        )
    return found


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    picture.save(content, "PNG" if path.suffix == ".png" else "JPEG", quality=90)
    storage.write(epath.Path(path), content.getvalue())


def _in_bytes(picture: Image.Image) -> Image.Image:
    """Grey levels of 16 bits, or floating point up to 1, 255 or 65535, as 8 bits."""
    levels = np.asarray(picture).astype(np.float64)
    if not np.isfinite(levels).all():
        raise ValueError("it holds numbers that are not finite")
    top = 65535.0
    if picture.mode == "F":
        top = next((top for top in (1.0, 255.0) if levels.max() <= top), top)
    return Image.fromarray(np.rint(255 * np.clip(levels / top, 0, 1)).astype(np.uint8))


def _done(out: Path, root: Path) -> set[str]:
    """The pictures that are noted, have a label map and have not changed since.

    Notes of others, and a last line that a killed run left cut, are removed.
    """
    notes = out / NOTES
    names, partial = set(), notes.with_name(f".{NOTES}")
    with partial.open("w") as kept:
        for note in _lines(notes):
            name = note["file"]
            labels, picture = out / "labels" / Path(name).with_suffix(".png"), root / name
            if name in names or not labels.is_file():
                continue
            if picture.is_file() and picture.stat().st_mtime > labels.stat().st_mtime:
                continue
            names.add(name)
            kept.write(json.dumps(note) + "\n")
    partial.replace(notes)
    return names


def _lines(notes: Path) -> Iterator[dict[str, Any]]:
    """The notes, one picture after another; a damaged line is left out."""
    with notes.open() as lines:
        for line in lines:
            try:
                note = json.loads(line)
                _ = note["file"], note["height"], note["width"], note["objects"]
            except (ValueError, KeyError, TypeError):
                logging.warning("%s: a damaged line is left out.", notes)
                continue
            yield note
