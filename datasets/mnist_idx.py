"""MNIST (LeCun et al. 1998) and Fashion-MNIST (arXiv 1708.07747): grey images, 28x28, ten classes.

Read from the published idx files, `train-images-idx3-ubyte.gz` and so on, which both sets call by
the same names: keep them in two directories. 60,000 train and 10,000 test. (TFDS has datasets of
these sets' own names, hence ours.)
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from datasets.builder import Variant
from datasets.errors import DamagedFileError
from datasets.labelled import File, LabelledImages, check_labels, unpacked
from datasets.schemas import Field, Schema
from datasets.sources import Arrays

_URLS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
}
_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}
_CLASSES = {
    "mnist": [str(digit) for digit in range(10)],
    "fashion_mnist": [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ],
}
SIZE = 28  # pixels, height and width
_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8  # the idx format's code of the type


class MnistIdx(LabelledImages):
    """Grey images of ten classes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(
            name=name,
            description=f"{classes[0]}, {classes[1]}, ...",
            schema=Schema(
                name=f"mnist_idx/{name}",
                image=(SIZE, SIZE, 3),
                num_entities=0,
                attributes=(("label", Field((), "uint8")),),
            ),
            vocabularies={"label": classes},
        )
        for name, classes in _CLASSES.items()
    )

    def files(self) -> tuple[File, ...]:
        name = self.builder_config.name
        return tuple(File(f"{_URLS[name]}/{file}", md5) for file, md5 in _MD5[name].items())

    def read(self, split: str, paths: Mapping[str, Path]) -> Arrays:
        """See `LabelledImages.read`."""
        labels_path = paths[f"{_PREFIX[split]}-labels-idx1-ubyte.gz"]
        images = read_idx(paths[f"{_PREFIX[split]}-images-idx3-ubyte.gz"], (SIZE, SIZE))
        labels = check_labels(labels_path, read_idx(labels_path, ()), 10, len(images))
        return {"image": images, "label": labels}


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The array uint8 `[N, *shape]` of a gzipped idx file: two zeros, type, rank, lengths, data.

    Raises:
      DamagedFileError: it is not one, or of another shape.
    """
    content = unpacked(path)
    rank = 1 + len(shape)
    header = 4 + 4 * rank
    expected = bytes([0, 0, _UNSIGNED_BYTE, rank])
    if content[:4] != expected or len(content) < header:
        raise DamagedFileError(
            f"{path}: begins with {content[:4].hex()}, an idx file of bytes of rank {rank} with"
            f" {expected.hex()}"
        )
    lengths = struct.unpack_from(f">{rank}I", content, 4)
    if lengths[1:] != shape or len(content) != header + math.prod(lengths):
        raise DamagedFileError(
            f"{path}: {len(content) - header} bytes for {lengths}, expected {('N', *shape)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(lengths)
