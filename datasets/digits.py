"""Handwritten digits, 8x8 (Alpaydin and Kaynak 1998): 1,797 grey images that scikit-learn ships.

They are the test part of UCI's "Optical Recognition of Handwritten Digits", by 13 writers. Here
they are one split in scikit-learn's order, in which writers follow each other. Nothing is
downloaded; scikit-learn is needed to prepare them, not afterwards.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from datasets.builder import Variant
from datasets.labelled import File, LabelledImages
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

SIZE = 8  # pixels, height and width
_LEVELS = 16  # above black, of a pixel


class Digits(LabelledImages):
    """Small handwritten digits."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(
            name="official",
            description="As scikit-learn has them.",
            schema=Schema(
                name="digits",
                image=(SIZE, SIZE, 3),
                num_entities=0,
                attributes=(("label", Field((), "uint8")),),
            ),
            vocabularies={"label": [str(digit) for digit in range(10)]},
        ),
    )

    @property
    def downloads(self) -> bool:
        return False

    def files(self) -> tuple[File, ...]:
        return ()

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Stream]:
        del dl_manager
        origin = {"name": "scikit-learn", "bytes": 0, "asked": self.source.max_records}
        return {"train": self._stream("train", {}, origin)}

    def read(self, split: str, paths: Mapping[str, Path]) -> Arrays:
        """See `LabelledImages.read`."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        levels = np.rint(digits.images * (255 / _LEVELS)).astype(np.uint8)
        return {"image": levels, "label": digits.target.astype(np.uint8)}
