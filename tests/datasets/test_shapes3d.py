"""3D Shapes: a file as the published one, its random order, and the pictures that stand in."""

import itertools

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.contact_sheet import contact_sheet
from datasets.errors import DamagedFileError, DatasetError
from datasets.prepare import prepare
from datasets.scenes import shapes3d as scenes

# A part of the published lattice, in its order: floor, wall and object hue, scale, shape,
# orientation, the last one fastest.
FACTORS = ((0.0, 0.9), (0.2,), (0.5, 0.6), (0.75, 1.25), (0, 1, 2, 3), (-30.0, 0.0, 30.0))
LABELS = np.array(list(itertools.product(*FACTORS)), np.float64)


def picture(number):
    """An image that tells its number: its first pixel."""
    image = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image[0, 0] = (number, 1, 2)
    return image


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A directory with `3dshapes.h5`: datasets, types, chunks and compression as published."""
    directory = tmp_path_factory.mktemp("raw")
    with h5py.File(directory / "3dshapes.h5", "w") as file:
        images = np.stack([picture(number) for number in range(len(LABELS))])
        file.create_dataset("images", data=images, chunks=(16, 16, 16, 3), compression="gzip")
        file.create_dataset("labels", data=LABELS)
    return directory


def read(name, raw, data_dir, **options):
    prepare(f"shapes3d/{name}", data_dir, raw_dir=raw, **options)
    builder = tfds.builder(f"shapes3d/{name}", data_dir=data_dir)
    return builder, list(builder.as_data_source(split="train"))


def assert_is(record, number):
    np.testing.assert_array_equal(record["image"], picture(number))
    floor, wall, solid, scale, shape, orientation = LABELS[number]
    np.testing.assert_allclose(record["hue"], [floor, wall, solid])
    np.testing.assert_allclose(record["scale"], [0, 0, scale])
    np.testing.assert_array_equal(record["shape"], [0, 0, shape + 1])
    np.testing.assert_allclose(record["orientation"], [orientation] * 3)


def test_the_file_in_its_order(raw, tmp_path):
    builder, records = read("official", raw, tmp_path)
    assert len(records) == len(LABELS) == 96
    assert "segmentation" not in builder.info.features
    assert builder.info.metadata["vocabularies"]["shape"][1:] == list(scenes.NAMES)
    assert not builder.info.metadata["background_ids"]
    for number, record in enumerate(records):
        assert_is(record, number)


def test_the_random_order_is_a_permutation_and_its_beginning_does_not_depend_on_its_length(
    raw, tmp_path, monkeypatch
):
    monkeypatch.setattr("datasets.shapes3d._BLOCK", 40)  # blocks that do not fill the file
    _, records = read("shuffled", raw, tmp_path / "all")
    order = [int(record["image"][0, 0, 0]) for record in records]
    assert sorted(order) == list(range(96))
    assert order != sorted(order)
    for number, record in zip(order, records, strict=True):
        assert_is(record, number)
    _, first = read("shuffled", raw, tmp_path / "some", max_records=10)
    assert [int(record["image"][0, 0, 0]) for record in first] == order[:10]


def test_a_sheet_of_scenes_without_masks(raw, tmp_path):
    read("official", raw, tmp_path, max_records=4)
    assert contact_sheet("shapes3d/official", tmp_path, tmp_path / "sheet.png", num=4).exists()


def test_another_file_is_prepared_again(raw, tmp_path):
    read("official", raw, tmp_path, max_records=4)
    other = tmp_path / "other"
    other.mkdir()
    with h5py.File(other / "3dshapes.h5", "w") as file:
        file["images"], file["labels"] = np.zeros((4, 64, 64, 3), np.uint8), LABELS[:4]
    _, records = read("official", other, tmp_path, max_records=4)
    assert not any(record["image"].any() for record in records)


def damage(path, how):
    if how == "cut short":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif how == "a page":
        path.write_text("<html>404</html>")
    else:
        with h5py.File(path, "w") as file:
            file["images"] = np.zeros((4, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut short", "not HDF5, or cut short"),
        ("a page", "not HDF5, or cut short"),
        ("of another set", r"has no images of shape \('N', 64, 64, 3\); it is not 3dshapes.h5"),
    ],
)
def test_damaged_files(raw, tmp_path, how, message):
    path = tmp_path / "3dshapes.h5"
    path.write_bytes((raw / "3dshapes.h5").read_bytes())
    damage(path, how)
    with pytest.raises(DamagedFileError, match=message):
        prepare("shapes3d/official", tmp_path / "data", raw_dir=tmp_path)


def test_a_missing_file_tells_where_to_get_it(tmp_path):
    with pytest.raises(DatasetError, match=r"get https://.*/3dshapes.h5.*or use the variant"):
        prepare("shapes3d/official", tmp_path / "data", raw_dir=tmp_path)


# --- pictures of the same factors


def rendered(**chosen):
    factors = {"hue": (0, 3, 6), "scale": 4, "shape": 0, "orientation": 7, **chosen}
    return {
        name: values[0]
        for name, values in scenes.render(
            **{name: np.array([value]) for name, value in factors.items()}
        ).items()
    }


@pytest.mark.parametrize("shape", range(4))
def test_a_larger_solid_covers_a_smaller_one(shape):
    small, large = (rendered(shape=shape, scale=s)["segmentation"] == 2 for s in (0, 7))
    assert small.sum() > 40
    assert large.sum() > 2 * small.sum()
    assert np.mean(large[small]) > 0.97  # both stand on the floor, so the outlines nearly nest


def test_each_entity_has_its_hue():
    scene = rendered(hue=(0, 3, 6))
    image, labels = scene["image"].astype(float), scene["segmentation"]
    assert set(np.unique(labels)) == {0, 1, 2}
    for entity, hue in enumerate((0, 3, 6)):
        colors = image[labels == entity]
        colors = colors / colors.max(axis=1, keepdims=True)
        np.testing.assert_allclose(
            colors, np.tile(scenes._COLORS[hue], (len(colors), 1)), atol=0.02
        )
    np.testing.assert_allclose(scene["hue"], [0, 0.3, 0.6])


def test_only_the_room_and_the_cube_turn():
    for shape, name in enumerate(scenes.NAMES):
        one, other = (rendered(shape=shape, orientation=o)["segmentation"] for o in (0, 10))
        assert ((one == 1) != (other == 1)).any()
        assert ((one == 2) != (other == 2)).any() == (name == "cube")


def test_factors_are_uniform_and_independent_of_the_batch():
    drawn = scenes.batch(3, np.arange(40))
    alone = scenes.batch(3, np.array([17]))
    for name, values in drawn.items():
        np.testing.assert_array_equal(values[17], alone[name][0])
    assert set(drawn["shape"][:, 2]) == {1, 2, 3, 4}
    assert len(np.unique(drawn["hue"])) == 10
    assert len(np.unique(drawn["scale"][:, 2])) == 8
