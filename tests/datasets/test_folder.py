"""A folder is a dataset: pictures of every mode and size, masks of every kind, changes."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from datasets import folder
from datasets.errors import DatasetError
from datasets.prepare import prepare

SIZE = 16


def name(path):
    return f"folder/{folder.key_of(path, SIZE)}"


def prepared(path, tmp_path):
    prepare(name(path), tmp_path / "data", raw_dir=path)
    builder = tfds.builder(name(path), data_dir=tmp_path / "data")
    return {split: builder.as_data_source(split) for split in builder.info.splits}


@pytest.fixture
def pictures(tmp_path):
    path = tmp_path / "mine"
    (path / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(60):
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02d}.png")
    Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)).save(path / "sub" / "grey.jpg")
    return path


def test_splits_by_path(pictures, tmp_path):
    splits = prepared(pictures, tmp_path)
    assert sum(len(source) for source in splits.values()) == 61
    assert len(splits["train"]) > 40
    before = {p: folder.part_of(p, pictures) for p in folder.pictures(pictures)}
    Image.new("RGB", (9, 9)).save(pictures / "another.png")
    after = {p: folder.part_of(p, pictures) for p in folder.pictures(pictures)}
    assert before.items() <= after.items(), "no picture moves when another comes"
    splits = prepared(pictures, tmp_path)
    assert sum(len(source) for source in splits.values()) == 62, "a changed folder is read again"


def test_what_is_there_is_kept(pictures, tmp_path):
    path = prepare(name(pictures), tmp_path / "data", raw_dir=pictures)
    before = (path / "dataset_info.json").stat().st_ino
    prepare(name(pictures), tmp_path / "data", raw_dir=pictures)
    assert (path / "dataset_info.json").stat().st_ino == before


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_mode(mode, tmp_path):
    grey = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (20, 1))
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(grey).convert("RGB" if mode in ("P", "CMYK") else mode)
        picture = picture.convert(mode)
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    picture.save(path)
    pixels = np.asarray(folder._opened(path))
    assert pixels.shape == (20, 20, 3)
    assert pixels[:, 0].mean() < 40
    assert pixels[:, -1].mean() > 215


def test_exif_turns_pictures(tmp_path):
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    turned = np.asarray(folder._opened(tmp_path / "x.jpg"))
    assert turned.shape == (20, 10, 3)
    assert turned[:8].mean() > 240
    assert turned[12:].mean() < 15


@pytest.mark.parametrize("kind", ["grey", "palette", "per object"])
def test_masks_follow_their_pictures(kind, pictures, tmp_path):
    for path in folder.pictures(pictures):
        with Image.open(path) as picture:
            width, height = picture.size
        labels = np.zeros((height, width), np.uint8)
        labels[:, : width // 2] = 5
        labels[: height // 2, width // 2 :] = 9
        target = pictures / "masks" / path.relative_to(pictures).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "per object":
            target.mkdir()
            Image.fromarray((labels == 5).astype(np.uint8) * 255).save(target / "a.png")
            Image.fromarray((labels == 9).astype(np.uint8) * 255).save(target / "b.png")
            continue
        picture = Image.fromarray(labels, "P" if kind == "palette" else "L")
        if kind == "palette":
            picture.putpalette(list(range(256)) * 3)
        picture.save(f"{target}.png")
    splits = prepared(pictures, tmp_path)
    for source in splits.values():
        for example in source:
            found = np.asarray(example["segmentation"])
            assert found.shape == (SIZE, SIZE)
            assert found[-1, 0] == 1
            assert found[0, -1] == 2
            assert found[-1, -1] == 0
            assert example["visibility"].sum() == 3


def test_without_masks_there_is_no_segmentation(pictures, tmp_path):
    assert prepared(pictures, tmp_path)["train"][0].keys() == {"image"}


def test_bad_input_is_one_line(pictures, tmp_path):
    def refused(message, path=pictures):
        with pytest.raises(DatasetError, match=message) as error:
            prepare(name(path), tmp_path / "data", raw_dir=path)
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "data").rglob("dataset_info.json"))

    with pytest.raises(DatasetError, match=r"raw_dir=.*nothing: no such folder"):
        folder.key_of(tmp_path / "nothing", SIZE)
    with pytest.raises(DatasetError, match=r"set config.data.size"):
        folder.key_of(pictures, None)
    (tmp_path / "empty").mkdir()
    refused("holds no picture", tmp_path / "empty")
    (pictures / "03.png").write_bytes(b"no picture")
    refused(r"03\.png: cannot be read as a picture")
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(pictures / "03.png", save_all=True, append_images=frames[1:])
    refused(r"03\.png: cannot be read as a picture \(it is animated")
    (pictures / "03.png").unlink()
    (pictures / "masks").mkdir()
    refused(r"00\.png: has no mask; neither")
    Image.new("L", (3, 3)).save(pictures / "masks" / "00.png")
    refused(r"masks/00\.png: cannot be read as a mask \(it is \(3, 3\), the picture")
