"""Features of a frozen encoder, kept beside the prepared scenes that they are made of.

`<data_dir>/<dataset>/<config>/features/` holds a `.npy` file of float16 `[N, h, w, D]` for each
slice of a split that a protocol uses, with one row per scene that the protocol keeps. Beside it lie
`.records.npy`, these scenes' places in the split, and `.json`: whose features they are, of what
images, and how many rows are done. Work that was interrupted goes on from there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from akorn_jax.errors import UserError
from akorn_jax.runtime import storage

# What decides what an image is, and which images there are.
PROTOCOL = ("crop", "size", "interpolation", "min_objects", "max_objects", "count", "seed")


class FeatureCache:
    """The features of one part of a protocol.

    Args:
        data: `config.data`, a protocol.
        part: "train", "validation" or "test".
        data_dir: where the datasets are prepared.
    """

    def __init__(self, data: Mapping[str, Any], part: str, data_dir: str | Path) -> None:
        split = data["split"] if isinstance(data["split"], str) else data["split"][part]
        start, stop = data[part]
        directory = Path(data_dir).expanduser() / data["name"] / "features"
        self._array = directory / f"{split}-{start}-{'end' if stop is None else stop}.npy"
        self._records = self._array.with_suffix(".records.npy")
        self._info = self._array.with_suffix(".json")
        self._protocol = json.loads(json.dumps({name: data[name] for name in PROTOCOL}))
        self._opened: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Processes that read a stream open the files themselves."""
        return {**self.__dict__, "_opened": None}

    @property
    def info(self) -> dict[str, Any] | None:
        """The encoder's checksum, the protocol, rows in all and done; None where there is none."""
        if not self._info.exists():
            return None
        try:
            return json.loads(self._info.read_text())
        except ValueError as error:
            raise UserError(f"{self._info} is damaged ({error}); delete the directory.") from error

    @property
    def complete(self) -> bool:
        """Whether all rows are done."""
        info = self.info
        return info is not None and info["done"] == info["rows"]

    def check(self, encoder: str) -> None:
        """Refuses the features of another encoder, or of other images.

        Args:
            encoder: its checksum.

        Raises:
            UserError: whose features these are instead.
        """
        info = self.info
        if info is None:
            return
        remedy = f"use another config.data_dir, or delete {self._array.parent}"
        if info["encoder"] != encoder:
            raise UserError(
                f"{self._array}: holds the features of another encoder, with the checksum "
                f"{info['encoder'][:12]} where config.init_from's has {encoder[:12]}; {remedy}."
            )
        if info["protocol"] != self._protocol:
            raise UserError(
                f"{self._array}: was made of other images, {info['protocol']} where config.data "
                f"has {self._protocol}; {remedy}."
            )

    def create(self, encoder: str, records: np.ndarray, shape: tuple[int, ...]) -> None:
        """Makes room for the features `[h, w, D]` of scenes, if there is none yet.

        Args:
            encoder: its checksum.
            records: `[N]`, each scene's place in the prepared split.
            shape: (h, w, D).

        Raises:
            UserError: the disk is full or read-only.
        """
        if self.info is not None:
            return
        try:
            self._array.parent.mkdir(parents=True, exist_ok=True)
            np.save(self._records, records)
            shape = (len(records), *shape)
            np.lib.format.open_memmap(self._array, "w+", np.float16, shape).flush()
        except OSError as error:
            raise UserError(f"{self._array}: cannot be written ({error.strerror}).") from error
        self._write({"encoder": encoder, "rows": len(records), "done": 0})

    def append(self, features: np.ndarray) -> None:
        """Keeps the next rows `[n, h, w, D]`."""
        info = self.info
        done = info["done"] + len(features)
        array = np.load(self._array, mmap_mode="r+")
        array[info["done"] : done] = features
        array.flush()
        self._write({**info, "done": done})

    def rows(self, records: np.ndarray) -> np.ndarray:
        """Features `[n, h, w, D]` of scenes, by their places in the prepared split.

        Raises:
            UserError: they are not kept, or not all of them yet.
        """
        if self._opened is None:
            if not self.complete:
                raise UserError(f"{self._array}: is not complete; run with --mode=prepare first.")
            self._opened = np.load(self._records), np.load(self._array, mmap_mode="r")
        kept, array = self._opened
        places = np.minimum(np.searchsorted(kept, records), len(kept) - 1)
        if not np.array_equal(kept[places], records):
            raise UserError(
                f"{self._array}: has no features of some scenes that are asked for; leave "
                "config.eval.min_objects and max_objects at 0."
            )
        return array[places]

    def _write(self, info: dict[str, Any]) -> None:
        content = json.dumps({**info, "protocol": self._protocol}).encode()
        storage.write(self._info, content)
