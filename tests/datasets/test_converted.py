"""Files that others have converted: HDF5 copies, RAVENS, Sketchy, npz; and their damage."""

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from akorn_jax.data import records as data_records
from akorn_jax.errors import UserError
from configs import dsprites_akorn
from configs.protocols import protocol
from datasets import multi_object, schemas
from datasets.errors import DamagedFileError, DatasetError
from datasets.prepare import prepare


def load(name, split, data_dir):
    return list(tfds.builder(name, data_dir=data_dir).as_data_source(split=split))


def append(file, entry):
    """Rows `[n, ...]` at the end of datasets that grow, as the converting scripts do."""
    for name, rows in entry.items():
        if name not in file:
            maxshape = (None, *rows.shape[1:])
            file.create_dataset(name, data=rows, maxshape=maxshape, compression="gzip", chunks=True)
        else:
            file[name].resize(len(file[name]) + len(rows), axis=0)
            file[name][-len(rows) :] = rows


# --- HDF5 copies of the multi-object files


def write_copy(path, schema, records):
    entities = np.arange(schema.num_entities)[:, None, None]
    with h5py.File(path, "w") as file:
        for record in records:
            masks = (record["segmentation"] == entities)[..., None] * np.uint8(255)
            rest = {name: v for name, v in record.items() if name != "segmentation"}
            append(file, {name: v[None] for name, v in {**rest, "mask": masks}.items()})


@pytest.fixture
def tetrominoes(random_record):
    rng = np.random.default_rng(0)
    return [random_record(schemas.find("tetrominoes"), rng) for _ in range(5)]


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("tetrominoes/official", "tetrominoes.h5", 5),
        ("clevr_with_masks/official", "clevr_with_masks.h5", 2),
        ("multi_dsprites/binarized", "multi_dsprites_binarized.h5", 3),  # masks not as in TFRecords
    ],
)
def test_a_copy_gives_the_records_of_the_original(tmp_path, random_record, name, file, count):
    schema = schemas.find(name)
    rng = np.random.default_rng(1)
    records = [random_record(schema, rng) for _ in range(count)]
    (tmp_path / "copy").mkdir()
    write_copy(tmp_path / "copy" / file, schema, records)
    original = tmp_path / "original" / schema.file
    original.parent.mkdir(parents=True)
    multi_object.write(original, name, records)
    found = {}
    for source in ("copy", "original"):
        prepare(name, tmp_path / f"{source}_data", raw_dir=tmp_path / source)
        found[source] = load(name, "train", tmp_path / f"{source}_data")
    assert len(found["copy"]) == count
    for copy, record in zip(found["copy"], found["original"], strict=True):
        assert copy.keys() == record.keys()
        for field in record:
            np.testing.assert_array_equal(copy[field], record[field], err_msg=field)


def test_some_records_of_a_copy_in_blocks_and_a_changed_copy(tmp_path, tetrominoes, monkeypatch):
    monkeypatch.setattr("datasets.hdf5._BLOCK_BYTES", 20_000)  # two records
    schema = schemas.find("tetrominoes")
    write_copy(tmp_path / "tetrominoes.h5", schema, tetrominoes)
    prepare("tetrominoes/official", tmp_path / "data", raw_dir=tmp_path, max_records=3)
    found = load("tetrominoes/official", "train", tmp_path / "data")
    assert len(found) == 3
    for got, expected in zip(found, tetrominoes, strict=False):
        np.testing.assert_array_equal(got["image"], expected["image"])
    write_copy(tmp_path / "tetrominoes.h5", schema, tetrominoes[::-1])
    prepare("tetrominoes/official", tmp_path / "data", raw_dir=tmp_path, max_records=3)
    first = load("tetrominoes/official", "train", tmp_path / "data")[0]
    np.testing.assert_array_equal(first["image"], tetrominoes[-1]["image"])


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _page(path):
    path.write_text("<html>404</html>")


def _edit(function):
    def edit(path):
        with h5py.File(path, "r+") as file:
            function(file)

    return edit


def _drop(name):
    return _edit(lambda file: file.__delitem__(name))


def _set(name, place, value):
    return _edit(lambda file: file[name].__setitem__(place, value))


def _as_group(file):
    del file["mask"]
    file.create_group("mask")


def _longer(file):
    file["x"].resize(9, axis=0)


def _other_type(file):
    values = file["x"][()].astype(np.float64)
    del file["x"]
    file["x"] = values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "not HDF5, or cut short"),
        (_page, "not HDF5, or cut short"),
        (_drop("color"), r"has no color of shape \('N', 4, 3\); it is not a copy of tetrominoes"),
        (_edit(_as_group), "has no mask of shape"),
        (_edit(_longer), "the lengths of its datasets differ"),
        (_edit(_other_type), "x is float64, expected float32"),
        (_set("mask", (2, 1, 3, 4, 0), 7), "record 2: mask: expected the values 0 and 255 only"),
        (_set("visibility", (3, 1), 0.5), "record 3: visibility: expected the values 0 and 1 only"),
    ],
)
def test_damaged_copies(tmp_path, tetrominoes, damage, message):
    path = tmp_path / "tetrominoes.h5"
    write_copy(path, schemas.find("tetrominoes"), tetrominoes)
    damage(path)
    refused("tetrominoes/official", tmp_path, message, names=path)


def refused(name, raw_dir, message, *, names=None):
    with pytest.raises(DatasetError, match=message) as info:
        prepare(name, raw_dir / "refused", raw_dir=raw_dir)
    assert "\n" not in str(info.value)
    if names is not None:
        assert str(names) in str(info.value)
        assert isinstance(info.value, DamagedFileError)
    assert not (raw_dir / "refused" / name).exists()


# --- RAVENS


def ravens_scene(rng, count):
    """Three views of five bodies and some objects; the last view has a corner without a body."""
    color = rng.integers(0, 256, (3, 480, 640, 3), dtype=np.uint8) // 64 * 64
    segm = np.zeros((3, 480, 640), np.uint8)
    for body in range(1, 5 + count):
        segm[:, 10 * body : 10 * body + 8, 100:300] = body
    segm[2, :5, :5] = 255
    return {"color": color, "segm": segm, "num_objects_on_table": np.array([count])}


@pytest.fixture(scope="module")
def ravens(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ravens")
    rng = np.random.default_rng(0)
    scenes = {"train": [ravens_scene(rng, n) for n in (3, 8, 4)], "test": [ravens_scene(rng, 5)]}
    for split, some in scenes.items():
        with h5py.File(directory / f"ravens_robot_data_{split}.h5", "w") as file:
            for scene in some:
                append(file, scene)
    return directory, scenes


@pytest.mark.parametrize(("config", "views"), [("official", (0, 1, 2)), ("first_view", (0,))])
def test_ravens(ravens, tmp_path, monkeypatch, config, views):
    monkeypatch.setattr("datasets.ravens._BLOCK", 2)
    directory, scenes = ravens
    prepare(f"ravens/{config}", tmp_path, raw_dir=directory)
    builder = tfds.builder(f"ravens/{config}", data_dir=tmp_path)
    assert builder.info.metadata["background_ids"] == [0, 1, 2, 3, 4]
    assert builder.info.metadata["ignore_ids"] == [255]
    for split, some in scenes.items():
        found = load(f"ravens/{config}", split, tmp_path)
        expected = [(scene, view) for scene in some for view in views]
        for record, (scene, view) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(record["image"], scene["color"][view])
            np.testing.assert_array_equal(record["segmentation"], scene["segm"][view])
            assert record["view"] == view
            assert record["visibility"].sum() == 1 + scene["num_objects_on_table"][0]
            objects = np.setdiff1d(scene["segm"][view], [*range(5), 255])
            assert record["visibility"][objects].all()


def test_ravens_by_its_protocol(ravens, tmp_path):
    """The middle squashed to a square, at most four objects, as the library that published it."""
    directory, scenes = ravens
    data = protocol("ravens_official:hhousen", procedural=False)
    data.max_objects = 4
    prepare(data.name, tmp_path, raw_dir=directory, max_records=8)
    examples = data_records.load(data, "train", tmp_path)
    assert examples.images.shape == (5, 128, 128, 3)  # of 8 records, 3 have eight objects
    assert examples.counts.tolist() == [3, 3, 3, 4, 4]
    cut = Image.fromarray(scenes["train"][0]["color"][1][:, 70:570])
    cut = np.asarray(cut.resize((128, 128), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(examples.images[1], cut)
    assert examples.background_ids == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "not HDF5, or cut short"),
        (_drop("segm"), r"has no segm of shape \('N', 480, 640\); it is not RAVENS robot data"),
        (_drop("num_objects_on_table"), "does not give one number from 0 to 8 for every 3 of 3 pi"),
        (_set("num_objects_on_table", 0, 9), "does not give one number from 0 to 8"),
        (_set("segm", (1, 0, 0), 13), "picture 1: segm has body 13, expected less than 13, or 255"),
    ],
)
def test_damaged_ravens(ravens, tmp_path, damage, message):
    for path in ravens[0].glob("*_test.h5"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    train = tmp_path / "ravens_robot_data_train.h5"
    train.write_bytes((tmp_path / "ravens_robot_data_test.h5").read_bytes())
    damage(train)
    refused("ravens/official", tmp_path, message, names=train)


def test_missing_ravens(ravens, tmp_path):
    refused("ravens/official", tmp_path, "has no ravens_.*_train.h5; get it from https://hugg")
    with pytest.raises(DatasetError, match=r"set config\.data\.raw_dir"):
        prepare("ravens/official", tmp_path / "data")


# --- Sketchy

FRAMES = [
    ("train", "ep000002", "ep000002_t0004_fr_c5"),
    ("train", "ep000002", "ep000002_t0004_fl_full"),
    ("train", "ep000002", "ep000002_t0012_fl_c0"),
    ("train", "ep000001", "ep000001_t0000_fr_full"),
    ("valid", "ep000000", "ep000000_t0000_fl_full"),
]
ORDER = [3, 1, 0, 2]  # of train: episode, frame, camera


@pytest.fixture
def sketchy(tmp_path):
    for number, (mode, episode, stem) in enumerate(FRAMES):
        folder = tmp_path / "raw" / "processed" / mode / episode
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((128, 128, 3), (number, 7, 9), np.uint8)
        Image.fromarray(pixels).save(folder / f"{stem}.png")
        (folder / f"{episode}_state.pt").write_bytes(b"not read")
    return tmp_path / "raw"


@pytest.mark.parametrize("above", [True, False])
def test_sketchy(sketchy, tmp_path, above):
    raw_dir = sketchy if above else sketchy / "processed"
    prepare("sketchy/official", tmp_path / "data", raw_dir=raw_dir)
    builder = tfds.builder("sketchy/official", data_dir=tmp_path / "data")
    assert set(builder.info.splits) == {"train", "validation"}
    found = load("sketchy/official", "train", tmp_path / "data")
    assert [int(record["image"][0, 0, 0]) for record in found] == ORDER
    assert [int(record["episode"]) for record in found] == [1, 2, 2, 2]
    assert [int(record["frame"]) for record in found] == [0, 4, 4, 12]
    names = builder.info.metadata["vocabularies"]
    cameras = [names["camera"][int(record["camera"])] for record in found]
    assert cameras == ["front right", "front left", "front right", "front left"]
    assert [names["crop"][int(r["crop"])] for r in found] == ["full", "full", "c5", "c0"]
    data = protocol("sketchy:genesis", procedural=False)
    examples = data_records.load(data, "validation", tmp_path / "data")
    assert examples.segmentation is None
    assert examples.images.shape == (1, 128, 128, 3)


def test_more_frames_are_prepared_again(sketchy, tmp_path):
    prepare("sketchy/official", tmp_path / "data", raw_dir=sketchy)
    folder = sketchy / "processed" / "test" / "ep000009"
    folder.mkdir(parents=True)
    Image.new("RGB", (128, 128)).save(folder / "ep000009_t0000_fl_c1.png")
    prepare("sketchy/official", tmp_path / "data", raw_dir=sketchy)
    assert len(load("sketchy/official", "test", tmp_path / "data")) == 1


def test_damaged_sketchy(sketchy, tmp_path):
    path = sketchy / "processed" / "train" / "ep000002" / "ep000002_t0004_fr_c5.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    refused("sketchy/official", sketchy, "not a readable image", names=path)
    Image.new("RGB", (64, 128)).save(path)
    refused("sketchy/official", sketchy, "64x128 pixels, expected 128x128", names=path)
    refused("sketchy/official", tmp_path / "raw/processed/valid", "has no processed/train/ep")
    with pytest.raises(DatasetError, match=r"set config\.data\.raw_dir"):
        prepare("sketchy/official", tmp_path / "data")


# --- AKOrN's npz


@pytest.fixture
def npz(tmp_path):
    """The converter's files: float64 images / 255, channels first."""
    rng = np.random.default_rng(0)
    scenes = {}
    folder = tmp_path / "raw" / "multi_dsprites"
    folder.mkdir(parents=True)
    for part, count in (("train", 5), ("val", 2), ("test", 3), ("eval", 1)):
        images = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
        images[0, :16, :16] = np.arange(256).reshape(16, 16, 1)
        labels = rng.integers(0, 6, (count, 64, 64), dtype=np.uint8)
        scenes[part] = images, labels
        channels_first = np.moveaxis(images, 3, 1) / 255
        name = folder / f"colored_on_grayscale_{part}.npz"
        np.savez_compressed(name, images=channels_first, labels=labels)
    return tmp_path / "raw", scenes


def test_npz(npz, tmp_path):
    raw_dir, scenes = npz
    prepare("akorn_npz/multi_dsprites", tmp_path / "data", raw_dir=raw_dir, max_records=4)
    for split, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        found = load("akorn_npz/multi_dsprites", split, tmp_path / "data")
        assert len(found) == min(4, len(scenes[part][0]))
        for record, image, labels in zip(found, *scenes[part], strict=False):
            np.testing.assert_array_equal(record["image"], image)
            np.testing.assert_array_equal(record["segmentation"], labels)


def test_the_recipe_reads_them(npz, tmp_path):
    raw_dir, scenes = npz
    config = dsprites_akorn.get_config("npz")
    assert {entry["dataset"] for entry in config.published} == {config.data.name}
    prepare(config.data.name, tmp_path, raw_dir=raw_dir, max_records=config.data.max_records)
    examples = data_records.load(config.data, "test", tmp_path)
    np.testing.assert_array_equal(examples.images, scenes["test"][0])
    np.testing.assert_array_equal(examples.segmentation, scenes["test"][1])
    with pytest.raises(UserError, match="exclude each other"):
        dsprites_akorn.get_config("npz,procedural")


def savez(**changed):
    images, labels = np.zeros((3, 3, 64, 64)), np.zeros((3, 64, 64), np.uint8)

    def damage(path):
        np.savez_compressed(path, **({"images": images, "labels": labels} | changed))

    return damage


def _flip(path):
    content = bytearray(path.read_bytes())
    for place in range(5_000, 6_000):
        content[place] ^= 0xFF
    path.write_bytes(content)


OUTSIDE = np.zeros((3, 3, 64, 64))
OUTSIDE[2, 0, 0, 0] = 1.5
NEITHER = np.where(OUTSIDE > 1, np.nan, 0.0)
LABELS = np.zeros((3, 64, 64), np.uint8)
LABELS[1, 0, 0] = 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "no npz file, or damaged"),
        (_page, "no npz file, or damaged"),
        (_flip, "no npz file, or damaged"),
        (
            savez(images=np.zeros((3, 64, 64, 3))),
            r"images is float64 of shape .* expected \('N', 3",
        ),
        (savez(images=np.array([None] * 3)), "images is object of shape"),
        (savez(images=np.zeros((2, 3, 64, 64))), "has 2 images and 3 label maps"),
        (savez(images=np.asfortranarray(np.ones((3, 3, 64, 64)))), "is stored column by column"),
        (savez(images=OUTSIDE), r"image 2 is not within \[0, 1\]"),
        (savez(images=NEITHER), r"image 2 is not within \[0, 1\]"),
        (savez(labels=LABELS), "label map 1 has labels 0 to 6, expected 0 to 5"),
        (lambda path: np.savez(path, images=OUTSIDE), "no npz file, or damaged .*labels"),
    ],
)
def test_damaged_npz(npz, damage, message):
    raw_dir, _ = npz
    path = raw_dir / "multi_dsprites" / "colored_on_grayscale_train.npz"
    damage(path)
    refused("akorn_npz/multi_dsprites", raw_dir, message, names=path)


def test_missing_npz(npz, tmp_path):
    raw_dir, _ = npz
    (raw_dir / "multi_dsprites" / "colored_on_grayscale_val.npz").unlink()
    refused("akorn_npz/multi_dsprites", raw_dir, "does not have colored_on_grayscale_train.npz, ")
    with pytest.raises(DatasetError, match=r"set config\.data\.raw_dir"):
        prepare("akorn_npz/clevr6", tmp_path / "data")
