"""A picture of the first scenes of a prepared dataset: image, masks, attributes.

contact_sheet("tetrominoes/procedural", "data", "sheet.png", num=16)
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

from datasets.errors import DatasetError

# Colours of labels 1, 2, ...: Okabe and Ito (2008), told apart with any colour vision, and three.
_PALETTE = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (255, 255, 255), (150, 75, 0),
        (170, 220, 130), (110, 60, 150),
    ],
    np.uint8,
)  # fmt: skip
_BACKGROUNDS = np.array([(40, 40, 40), (62, 62, 62), (84, 84, 84), (106, 106, 106)], np.uint8)
_NOBODY = (128, 128, 128)  # pixels of no one entity, crossed out
_CELL = 192  # pixels of the longer side of an image
_GAP = 8
_FONT_SIZE = 11
_LINE = 14  # pixels from line to line
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def contact_sheet(
    name: str,
    data_dir: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    start: int = 0,
    num: int = 16,
    columns: int = 4,
) -> Path:
    """Writes a PNG of scenes of a prepared split: images, masks and what the attributes say.

    Args:
      name: `<dataset>/<config>` that is prepared in `data_dir`.
      data_dir: where.
      path: of the PNG; its directory is made.
      split: None takes the first there is.
      start: first record.
      num: records; fewer if the split ends.
      columns: scenes side by side.

    Returns:
      `path`.

    Raises:
      DatasetError: the dataset is not prepared, has no such split or no record `start`.
    """
    try:
        builder = tfds.builder(name, data_dir=os.fspath(data_dir))
    except tfds.core.DatasetNotFoundError as error:
        raise _not_prepared(name, data_dir) from error
    splits = builder.info.splits
    if not splits:  # the builder is known, its data are not there
        raise _not_prepared(name, data_dir)
    split = split or next(iter(splits))
    if split not in splits:
        raise DatasetError(f"{name}: split={split!r} is not one of {', '.join(splits)}")
    stop = min(start + num, splits[split].num_examples)
    if not 0 <= start < stop:
        raise DatasetError(
            f"{name}: start={start}, num={num}: the split has {splits[split].num_examples} records"
        )
    source = builder.as_data_source(split=f"{split}[{start}:{stop}]")
    metadata = builder.info.metadata
    panels = [
        _panel(example, ", ".join([f"{split}[{number}]", *_of_scene(example, metadata)]), metadata)
        for number, example in enumerate(source, start)
    ]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _grid(panels, columns).save(path)
    return path


def _not_prepared(name: str, data_dir: str | os.PathLike[str]) -> DatasetError:
    return DatasetError(f"{name}: is not prepared in data_dir={data_dir}; prepare it first")


def colored(labels: np.ndarray, metadata: Mapping[str, Any]) -> np.ndarray:
    """A label map [H, W] as a picture uint8 [H, W, 3]: background dark grey, objects in colours,
    ignored pixels hatched."""
    table = _PALETTE[(np.arange(256) - 1) % len(_PALETTE)]
    for number, label in enumerate(metadata["background_ids"]):
        table[label] = _BACKGROUNDS[number % len(_BACKGROUNDS)]
    picture = table[labels]
    rows, columns = np.indices(labels.shape)
    ignored = np.isin(labels, metadata["ignore_ids"])
    picture[ignored] = np.where(((rows + columns) % 2 == 0)[..., None], 255, _NOBODY)[ignored]
    return picture


def _panel(example: Mapping[str, np.ndarray], title: str, metadata: Mapping[str, Any]) -> Image:
    """Image and masks side by side, the attributes below, a line an object in its colour.

    Of a video its first frame, without attributes that change in time; of a puzzle its boards.
    """
    if "puzzle" in example:
        return _boards(example, title)
    if "video" in example:
        example = _first_frame(example)
    image = example["image"]
    height, width = image.shape[:2]
    # Without masks all of the picture beside the image is label 0.
    labels = example.get("segmentation", np.zeros((height, width), np.uint8))
    scale = _CELL / max(height, width)
    size = round(width * scale), round(height * scale)
    font = ImageFont.load_default(_FONT_SIZE)
    objects = _describe(example, metadata)
    panel = Image.new("RGB", (2 * size[0] + 2, size[1] + (len(objects) + 1) * _LINE + 6), _PAPER)
    # Enlarged pixels stay square; pictures that must shrink are averaged.
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    panel.paste(Image.fromarray(image).resize(size, method), (0, 0))
    masks = Image.fromarray(colored(labels, metadata))
    panel.paste(masks.resize(size, Image.Resampling.NEAREST), (size[0] + 2, 0))
    draw = ImageDraw.Draw(panel)
    title = _fitting(title.split(", "), panel.width, font)
    draw.text((0, size[1] + 3), title, fill=_INK, font=font)
    for number, (label, words) in enumerate(objects, 1):
        top = size[1] + 3 + number * _LINE
        color = tuple(colored(np.full((1, 1), label, np.uint8), metadata)[0, 0].tolist())
        draw.rectangle((0, top + 2, 8, top + 10), fill=color, outline=_INK)
        draw.text((13, top), _fitting(words, panel.width - 13, font), fill=_INK, font=font)
    return panel


def _boards(example: Mapping[str, np.ndarray], title: str) -> Image:
    """A puzzle and its solution, whose other digits are in a colour."""
    font = ImageFont.load_default(_FONT_SIZE)
    panel = Image.new("RGB", (2 * _CELL + _GAP, _CELL + _LINE + 6), _PAPER)
    draw = ImageDraw.Draw(panel)
    side = _CELL // len(example["puzzle"])
    for board, left in ((example["puzzle"], 0), (example["solution"], _CELL + _GAP)):
        for (row, column), digit in np.ndenumerate(board):
            x, y = left + column * side, row * side
            draw.rectangle((x, y, x + side, y + side), outline=_NOBODY)
            if digit:
                ink = _INK if example["given"][row, column] else tuple(_PALETTE[4].tolist())
                draw.text((x + side / 2, y + side / 2), str(digit), ink, font, anchor="mm")
    words = [*title.split(", "), f"{np.sum(example['given'])} givens"]
    draw.text((0, _CELL + 3), _fitting(words, panel.width, font), fill=_INK, font=font)
    return panel


def _first_frame(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    video, labels = example["video"], example["segmentation"]
    still = {
        name: array
        for name, array in example.items()
        if name not in ("video", "segmentation")
        and not (array.ndim > 1 and array.shape[1] == len(video))
    }
    return {"image": video[0], "segmentation": labels[0], **still}


def _of_scene(example: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> list[str]:
    """What the attributes say of the scene as a whole: its class."""
    names = sorted(name for name, value in example.items() if np.ndim(value) == 0)
    return [_word(name, example[name], metadata["vocabularies"]) for name in names]


def _describe(
    example: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> list[tuple[int, list[str]]]:
    """Label and attributes of every object: the names of codes, then numbers."""
    vocabularies = metadata["vocabularies"]
    if "visibility" not in example and "segmentation" not in example:
        return []
    maps = {name for name in example if name.endswith("segmentation")}
    fields = sorted(
        (n for n in example.keys() - maps - {"image", "visibility"} if np.ndim(example[n])),
        key=lambda name: (name not in vocabularies, example[name].ndim, name),
    )
    if "visibility" in example:
        present = np.flatnonzero(example["visibility"])
    else:
        present = np.setdiff1d(example["segmentation"], metadata["ignore_ids"])
    objects = []
    for entity in np.setdiff1d(present, metadata["background_ids"]).tolist():
        words = [_word(name, example[name][entity], vocabularies) for name in fields]
        objects.append((entity, [word for word in words if word != "none"]))
    return objects


def _fitting(words: Sequence[str], width: int, font: ImageFont.ImageFont) -> str:
    """As many of the words as fit into `width` pixels."""
    for count in range(len(words), 0, -1):
        text = ", ".join(words[:count])
        if font.getlength(text) <= width:
            return text
    return ""


def _word(name: str, value: np.ndarray, vocabularies: Mapping[str, Sequence[str]]) -> str:
    if name in vocabularies:
        code = int(value)
        return vocabularies[name][code] if code < len(vocabularies[name]) else f"{name}={code}?"
    numbers = ", ".join(f"{number:.3g}" for number in np.atleast_1d(value).tolist())
    return f"{name}=({numbers})" if np.ndim(value) else f"{name}={numbers}"


def _grid(panels: Sequence[Image.Image], columns: int) -> Image.Image:
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = (max(panel.size[axis] for panel in panels) for axis in (0, 1))
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _PAPER
    )
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        sheet.paste(panel, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return sheet
