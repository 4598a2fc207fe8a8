"""The contact sheet shows the scenes that were prepared."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from datasets.contact_sheet import _describe, colored, contact_sheet
from datasets.errors import DatasetError
from datasets.prepare import prepare

METADATA = {"background_ids": [0], "ignore_ids": [255], "vocabularies": {"shape": ["none", "cube"]}}


def test_a_sheet_holds_the_images(tmp_path):
    prepare("tetrominoes/procedural", tmp_path, max_records=6)
    path = contact_sheet("tetrominoes/procedural", tmp_path, tmp_path / "x/sheet.png", num=5)
    sheet = np.asarray(Image.open(path))
    builder = tfds.builder("tetrominoes/procedural", data_dir=tmp_path)
    image = builder.as_data_source(split="train")[0]["image"]
    enlarged = np.asarray(Image.fromarray(image).resize((192, 192), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(sheet[8 : 8 + 192, 8 : 8 + 192], enlarged)
    assert sheet.shape[1] == 4 * (2 * 192 + 2) + 5 * 8
    assert contact_sheet("tetrominoes/procedural", tmp_path, path, start=5, num=9) == path
    assert np.asarray(Image.open(path)).shape[1] < 450  # one scene is left


def test_boards_are_shown_with_their_solutions(tmp_path):
    prepare("sudoku/procedural_4x4", tmp_path, max_records=2)
    path = contact_sheet("sudoku/procedural_4x4", tmp_path, tmp_path / "sheet.png")
    record = tfds.builder("sudoku/procedural_4x4", data_dir=tmp_path).as_data_source(split="train")[
        0
    ]
    sheet = np.asarray(Image.open(path).convert("RGB"))[8:, 8:]
    cells = np.stack(np.split(np.stack(np.split(sheet[:192, :192], 4)), 4, axis=2), axis=1)
    inner = cells[:, :, 4:-4, 4:-4].reshape(4, 4, -1)
    np.testing.assert_array_equal(inner.min(axis=-1) < 255, record["given"] == 1)


def test_refuses_what_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="is not prepared"):
        contact_sheet("tetrominoes/procedural", tmp_path, tmp_path / "sheet.png")
    prepare("tetrominoes/procedural", tmp_path, max_records=2)
    with pytest.raises(DatasetError, match="split='test' is not one of train"):
        contact_sheet("tetrominoes/procedural", tmp_path, tmp_path / "sheet.png", split="test")
    with pytest.raises(DatasetError, match="the split has 2 records"):
        contact_sheet("tetrominoes/procedural", tmp_path, tmp_path / "sheet.png", start=2)


def test_colors_of_labels():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = colored(labels, METADATA).reshape(256, 3)
    assert len(np.unique(picture[:12], axis=0)) == 12  # background and eleven objects
    assert picture[255].tolist() in ([255, 255, 255], [128, 128, 128])


def test_attributes_in_words():
    example = {
        "segmentation": np.zeros((2, 2), np.uint8),
        "visibility": np.array([1, 1, 0], np.float32),
        "shape": np.array([0, 1, 0], np.uint8),
        "color": np.array([[0, 0], [0.5, 1], [0, 0]], np.float32),
    }
    assert _describe(example, METADATA) == [(1, ["cube", "color=(0.5, 1)"])]
    example["shape"][1] = 0  # none
    assert _describe(example, METADATA) == [(1, ["color=(0.5, 1)"])]
    del example["visibility"]
    example["segmentation"][0] = 1
    example["shape"][1] = 7  # a code without a name
    assert _describe(example, METADATA) == [(1, ["shape=7?", "color=(0.5, 1)"])]
