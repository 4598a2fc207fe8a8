"""Prepared datasets: read by name, cut to a paper's protocol, and dealt out in a fixed order.

Knows TFDS and nothing of how the files were made. A *protocol* is data (`config.data`): which
prepared records, which crop and size, which scenes are kept, and which of the kept ones are for
training and for testing.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from akorn_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Scenes in memory.

    Attributes:
        images: `[N, H, W, 3]` uint8.
        labels: `[N, H, W]` uint8; 0 is the background, i the i-th object.
        attributes: per-object arrays `[N, E, ...]` by name.
        records: `[N]`, each scene's place in the prepared split.
        background_ids: labels that are no object.
        ignore_ids: labels of pixels that belong to nobody.
    """

    images: np.ndarray
    labels: np.ndarray
    attributes: dict[str, np.ndarray]
    records: np.ndarray
    background_ids: tuple[int, ...] = (0,)
    ignore_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def load(data: Mapping[str, Any], part: str, data_dir: str | Path) -> Examples:
    """The scenes of one part of a protocol, decoded, cropped and resized.

    Args:
        data: `config.data`, a protocol.
        part: "train", "validation" or "test"; a (start, stop) of the kept scenes in file order.
        data_dir: where the datasets are prepared.

    Raises:
        UserError: if the prepared data has fewer scenes than the protocol needs, or none.
    """
    builder = open_builder(data["name"], data_dir)
    if data[part] is None:
        raise UserError(
            f"{data['name']}: this protocol has no {part} part; set config.data.{part}."
        )
    start, stop = data[part]
    split = data["split"] if isinstance(data["split"], str) else data["split"][part]
    found: list[dict[str, np.ndarray]] = []
    records, kept = [], 0
    for record, example in enumerate(_read(builder, split, data, stop)):
        example = transform(example, data)
        if not _keep(example, data):
            continue
        if kept >= start:
            found.append(example)
            records.append(record)
        kept += 1
        if stop is not None and kept == stop:
            break
    if kept <= start or (stop is not None and kept < stop):
        raise UserError(
            f"{data['name']} has {kept} scenes that fit, {part}=({start}, {stop}) needs "
            f"{stop or start + 1}; raise config.data.max_records or set config.data.{part}."
        )
    arrays = {name: np.stack([example[name] for example in found]) for name in found[0]}
    metadata = builder.info.metadata or {}
    return Examples(
        images=arrays.pop("image"),
        labels=arrays.pop("segmentation"),
        attributes=arrays,
        records=np.asarray(records),
        background_ids=tuple(metadata.get("background_ids", (0,))),
        ignore_ids=tuple(metadata.get("ignore_ids", ())),
    )


def open_builder(name: str, data_dir: str | Path) -> tfds.core.DatasetBuilder:
    """The prepared dataset "name/config".

    Raises:
        UserError: if it is not prepared there.
    """
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        builder = None
    if builder is None or not builder.is_prepared():
        raise UserError(f"{name} is not prepared in {data_dir}; run with --mode=prepare first.")
    return builder


def _read(
    builder: tfds.core.DatasetBuilder, split: str, data: Mapping[str, Any], stop: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """Records in file order; without a filter, only as many as are needed."""
    if split not in builder.info.splits:
        raise UserError(f"{data['name']} has no split {split!r}: {', '.join(builder.info.splits)}.")
    total = builder.info.splits[split].num_examples
    if stop is not None and data["max_objects"] is None and data["min_objects"] is None:
        total = min(total, stop)
    return iter(builder.as_data_source(split=f"{split}[:{total}]"))


def transform(example: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One record with the protocol's crop and size."""
    example = {name: np.asarray(value) for name, value in example.items()}
    image, labels = example["image"], example["segmentation"]
    image = image if image.ndim == 3 else image[..., None]
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    labels = labels.reshape(image.shape[:2])
    if data["crop"] is not None:
        top, left, bottom, right = data["crop"]
        image, labels = image[top:bottom, left:right], labels[top:bottom, left:right]
    if data["size"] is not None and image.shape[:2] != (data["size"], data["size"]):
        if data["interpolation"] == "nearest":
            image = _nearest(image, data["size"])
        else:
            size = (data["size"], data["size"])
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        labels = _nearest(labels, data["size"])
    return {**example, "image": image, "segmentation": labels}


def _nearest(array: np.ndarray, size: int) -> np.ndarray:
    """`[H, W, ...]` at `[size, size, ...]`: pixel i comes from floor((i + 1/2) H / size)."""
    rows, columns = (
        ((np.arange(size) + 0.5) * length / size).astype(int) for length in array.shape[:2]
    )
    return array[rows][:, columns]


def num_objects(example: Mapping[str, np.ndarray], count: str) -> int:
    """How many objects a scene has.

    Args:
        example: a transformed record.
        count: "visible", the largest label that is still in the picture (as AKOrN counts), or
            "listed", the objects in the record, wherever they are.
    """
    if count == "visible":
        return int(example["segmentation"].max())
    return int(np.sum(example["visibility"][1:]))


def _keep(example: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> bool:
    low, high = data["min_objects"], data["max_objects"]
    if low is None and high is None:
        return True
    count = num_objects(example, data["count"])
    return (low is None or count >= low) and (high is None or count <= high)


class Order:
    """Which scenes each step sees: a pure function of (seed, step).

    The stream is one permutation of all scenes after another, so every scene is seen once an epoch;
    a batch may span two epochs. The i-th step takes the stream's entries from i * batch_size.
    """

    def __init__(self, num_examples: int, batch_size: int, seed: int) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def __getitem__(self, step: int) -> np.ndarray:
        """The scenes of a step, `[batch_size]` int32."""
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(position, self.num_examples)
        wanted = range(int(epochs[0]), int(epochs[-1]) + 1)
        self._epochs = {e: self._epochs.get(e, None) for e in wanted}
        for epoch, order in self._epochs.items():
            if order is None:
                rng = np.random.default_rng((self.seed, epoch))
                self._epochs[epoch] = rng.permutation(self.num_examples).astype(np.int32)
        return np.stack([self._epochs[e][p] for e, p in zip(epochs, places, strict=True)])
