"""Folders of images: labels by folder, squares as torchvision cuts them, and what is wrong."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from datasets.errors import DatasetError
from datasets.imagenet_folder import square
from datasets.prepare import prepare

RNG = np.random.default_rng(0)


@pytest.fixture
def raw_dir(tmp_path):
    """12 train and 4 val images of classes "n1" and "n2": the red channel tells which image."""
    for folder, count in (("train", 12), ("val", 4)):
        for number in range(count):
            name = f"n{1 + number % 2}"
            path = tmp_path / "raw" / folder / name / f"{number:03d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((80, 100, 3), (10 * number, 0, 0), np.uint8)
            Image.fromarray(pixels).save(path, quality=95)
    return tmp_path / "raw"


def test_labels_are_those_of_the_folders(tmp_path, raw_dir):
    prepare("imagenet_folder/64", tmp_path / "data", raw_dir=raw_dir)
    builder = tfds.builder("imagenet_folder/64", data_dir=tmp_path / "data")
    assert builder.info.metadata["vocabularies"]["label"] == ["n1", "n2"]
    numbers = {}
    for split in ("train", "validation"):
        records = list(builder.as_data_source(split=split))
        assert {record["image"].shape for record in records} == {(64, 64, 3)}
        found = [round(float(record["image"][..., 0].mean()) / 10) for record in records]
        assert [record["label"] for record in records] == [number % 2 for number in found]
        numbers[split] = found
    assert sorted(numbers["train"]) == list(range(12)) != numbers["train"]
    assert numbers["validation"] == [0, 2, 1, 3]
    first = (tmp_path / "data/imagenet_folder/64/1.0.0/dataset_info.json").stat().st_ino
    prepare("imagenet_folder/64", tmp_path / "data", raw_dir=raw_dir)
    assert (tmp_path / "data/imagenet_folder/64/1.0.0/dataset_info.json").stat().st_ino == first


@pytest.mark.parametrize(("height", "width"), [(90, 70), (64, 64), (40, 130)])
def test_squares(tmp_path, height, width):
    """The whole short side and the centre of the long one."""
    pixels = np.zeros((height, width, 3), np.uint8)
    ramp = np.linspace(0, 255, max(height, width))
    pixels[..., 0] = ramp[:height, None] if height > width else ramp[:width]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = square(tmp_path / "a.png", 64).astype(float)
    assert found.shape == (64, 64, 3)
    line = found[:, 0, 0] if height > width else found[0, :, 0]
    np.testing.assert_allclose(line + line[::-1], 255, atol=4)  # the centre
    share = min(height, width) / max(height, width)
    assert abs((line[-1] - line[0]) - 255 * share) < 10


def test_what_is_wrong_is_named(tmp_path, raw_dir):
    def refused(match, **options):
        with pytest.raises(DatasetError, match=match):
            prepare("imagenet_folder/64", tmp_path / "other", **options)

    refused("set config.data.raw_dir to the directory")
    refused("has no folders, one per class", raw_dir=tmp_path)
    (raw_dir / "train/n1/000.JPEG").write_bytes(b"no image")
    refused(r"000.JPEG: not a readable image", raw_dir=raw_dir)
    (raw_dir / "val/n3").mkdir()
    (raw_dir / "val/n1/000.JPEG").rename(raw_dir / "val/n3/000.JPEG")
    refused(r"n3/000.JPEG: train has no folder n3", raw_dir=raw_dir)
