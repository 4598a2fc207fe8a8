"""Protocols cut what the papers cut, and the order is a pure function of seed and step."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds

from akorn_jax.data import properties, records
from akorn_jax.errors import UserError
from datasets import clevr_with_masks

NO_CROP = {"crop": None, "size": None, "interpolation": "nearest"}


def test_load_cuts_the_protocols_slice_and_crop(tiny, data_dir):
    examples = records.load(tiny.data, "test", data_dir)
    source = tfds.builder("tetrominoes/procedural", data_dir=data_dir).as_data_source("train")
    assert examples.images.shape == (16, 32, 32, 3)
    assert examples.segmentation.shape == (16, 32, 32)
    for i in (0, 15):
        np.testing.assert_array_equal(examples.images[i], source[i]["image"][1:33, 1:33])
        np.testing.assert_array_equal(
            examples.segmentation[i], source[i]["segmentation"][1:33, 1:33]
        )
        np.testing.assert_array_equal(examples.attributes["color"][i], source[i]["color"])
    assert examples.records.tolist() == list(range(16))
    assert records.load(tiny.data, "train", data_dir).records[0] == 32


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("crop", (6, 6, 9, 9), r"crop=\(6, 6, 9, 9\): the images have 4 rows and 5 columns"),
        ("crop", (0, 0, 5, 5), r"crop=\(0, 0, 5, 5\): the images have 4 rows"),
        ("crop", (3, 0, 3, 4), r"crop=\(3, 0, 3, 4\)"),
        ("crop", (-2, 0, 4, 4), r"crop=\(-2, 0, 4, 4\)"),
        ("interpolation", "Nearest", "interpolation='Nearest': choose one of nearest, bilinear"),
    ],
)
def test_a_crop_or_interpolation_that_means_nothing_is_refused(field, value, expected):
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(UserError, match=expected):
        records.transform({"image": image}, NO_CROP | {field: value})


@pytest.mark.parametrize("bounds", [(None, None), (3, 3)])
@pytest.mark.parametrize("names", [("image",), ("segmentation", "color"), ("visibility",)])
def test_some_fields_are_those_of_whole_scenes(tiny, data_dir, bounds, names):
    tiny.data.min_objects, tiny.data.max_objects = bounds
    whole = records.load(tiny.data, "train", data_dir)
    expected = {"image": whole.images, "segmentation": whole.segmentation, **whole.attributes}
    arrays, places = records.load_fields(tiny.data, "train", data_dir, names)
    assert arrays.keys() == set(names)
    np.testing.assert_array_equal(places, whole.records)
    stored = records.OnDisk(tiny.data, "train", data_dir, names)
    np.testing.assert_array_equal(stored.records, whole.records)
    for name in names:
        np.testing.assert_array_equal(arrays[name], expected[name])
        np.testing.assert_array_equal(stored[5][name], expected[name][5])
    assert stored[5].keys() == set(names), "nothing else is decoded"


def test_too_few_scenes_are_refused_with_both_counts(tiny, data_dir):
    tiny.data.train = (0, 1000)
    with pytest.raises(UserError, match=r"has 128 scenes that fit, train=\(0, 1000\) needs 1000"):
        records.load(tiny.data, "train", data_dir)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("train", (0, 64, 0, 32), r"config.data.train=\(0, 64, 0, 32\): expected \(first, end\)"),
        (
            "crop",
            (1, 1, 33),
            r"config.data.crop=\(1, 1, 33\): expected \(top, left, bottom, right\)",
        ),
    ],
)
def test_tuples_of_another_length_are_refused(tiny, data_dir, field, value, expected):
    tiny.data[field] = value
    with pytest.raises(UserError, match=expected):
        records.load(tiny.data, "train", data_dir)


def test_unprepared_data_are_named(tiny, tmp_path):
    with pytest.raises(UserError, match="tetrominoes/procedural is not prepared in"):
        records.load(tiny.data, "train", tmp_path)


def test_a_damaged_prepared_file_is_named(tiny, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "copy")
    (path,) = (tmp_path / "copy").rglob("*-train.array_record*")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(byte ^ 255 for byte in content[middle : middle + 400])
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path.parent}: a prepared file is damaged") as caught:
        records.load(tiny.data, "train", tmp_path / "copy")
    assert "\n" not in str(caught.value)
    stored = records.OnDisk(tiny.data, "train", tmp_path / "copy", ("image",))
    with pytest.raises(UserError, match="a prepared file is damaged"):
        [stored[i] for i in range(len(stored))]


def test_filter_counts_kept_scenes_in_file_order(tiny, data_dir):
    everything = records.load(tiny.data, "train", data_dir)
    with tiny.unlocked():
        tiny.data.max_objects = 2
    with pytest.raises(UserError, match="has 0 scenes that fit"):
        records.load(tiny.data, "train", data_dir)
    tiny.data.max_objects = 3
    np.testing.assert_array_equal(
        records.load(tiny.data, "train", data_dir).images, everything.images
    )


@pytest.mark.parametrize(("count", "expected"), [("visible", 2), ("listed", 3)])
def test_objects_are_counted_without_the_background(count, expected):
    scene = {
        "segmentation": np.array([[0, 1], [2, 0]], np.uint8),
        "visibility": np.array([1, 1, 1, 1, 0], np.float32),
    }
    assert records.num_objects(scene, count) == expected


def test_nearest_takes_the_pixel_under_the_centre():
    image = np.arange(192 * 192 * 3, dtype=np.uint32).reshape(192, 192, 3).astype(np.uint8)
    labels = (np.arange(192 * 192).reshape(192, 192) % 251).astype(np.uint8)
    out = records.transform({"image": image, "segmentation": labels}, {**NO_CROP, "size": 128})
    index = np.floor((np.arange(128) + 0.5) * 1.5).astype(int)
    np.testing.assert_array_equal(out["image"], image[index][:, index])
    np.testing.assert_array_equal(out["segmentation"], labels[index][:, index])


def test_bilinear_is_for_images_alone():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    labels = rng.integers(0, 2, (8, 8), np.uint8) * 7
    out = records.transform(
        {"image": image, "segmentation": labels},
        {**NO_CROP, "size": 4, "interpolation": "bilinear"},
    )
    assert out["image"].shape == (4, 4, 3)
    assert set(np.unique(out["segmentation"])) <= {0, 7}


def test_codes_mean_the_same_in_published_and_drawn_data():
    published, drawn = (
        clevr_with_masks.ClevrWithMasks.builder_configs[name].vocabularies
        for name in ("official", "procedural")
    )
    assert properties.translations(published) == {}
    codes = properties.translations(drawn)
    scene = {"image": np.zeros((4, 4, 3), np.uint8)}
    words = {name: ["none", drawn[name][-1], drawn[name][1]] for name in properties.VALUES}
    for name, spoken in words.items():
        scene[name] = np.array([drawn[name].index(word) for word in spoken], np.uint8)
    out = records.transform(scene, NO_CROP, codes)
    for name, spoken in words.items():
        assert [published[name][code] for code in out[name]] == spoken
    assert properties.translations({"shape": ["none", "heart"]}) == {}  # other words


def test_one_channel_becomes_three():
    gray = np.full((4, 4, 1), 9, np.uint8)
    out = records.transform({"image": gray, "segmentation": gray}, NO_CROP)
    assert out["image"].shape == (4, 4, 3)
    assert out["segmentation"].shape == (4, 4)


def test_every_scene_is_seen_once_an_epoch():
    order = records.EpochSampler(10, 4, seed=0)
    stream = np.concatenate([order[step] for step in range(5)])  # two epochs of ten
    assert sorted(stream[:10]) == list(range(10))
    assert sorted(stream[10:]) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()


def test_order_depends_on_seed_and_step_alone():
    order, again = records.EpochSampler(50, 8, seed=1), records.EpochSampler(50, 8, seed=1)
    late = again[30]  # without looking at the steps before
    for step in range(31):
        batch = order[step]
    np.testing.assert_array_equal(batch, late)
    assert (records.EpochSampler(50, 8, seed=2)[0] != records.EpochSampler(50, 8, seed=1)[0]).any()


def test_threads_that_share_an_order_do_not_disturb_each_other():
    """At the border of two epochs they ask for different permutations."""
    order, alone = records.EpochSampler(40, 8, seed=0), records.EpochSampler(40, 8, seed=0)
    steps = [step for _ in range(400) for step in (3, 4, 5, 6, 9, 10)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            batches = list(threads.map(order.__getitem__, steps))
    finally:
        sys.setswitchinterval(interval)
    for step, batch in zip(steps, batches, strict=True):
        np.testing.assert_array_equal(batch, alone[step])


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(records.EpochSampler(3, 7, seed=0)[0][:6]) == [0, 0, 1, 1, 2, 2]
