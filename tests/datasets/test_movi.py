"""MOVi from TFRecords in Kubric's layout, written by protobuf and the test's own checksum."""

import functools
import http.server
import io
import json
import struct
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from datasets import movi
from datasets.contact_sheet import contact_sheet
from datasets.errors import DatasetError
from datasets.prepare import prepare

FRAMES, SIDE = 24, 128
KINDS = {
    "a": {"shape_label": 3, "size_label": 2, "material_label": 2, "color_label": 8},
    "b": {"shape_label": 11, "material_label": 2},
    "c": {"category": 17},
    "d": {"category": 17, "is_dynamic": 2},
    "e": {"category": 17, "is_dynamic": 2},
}


def crc32c(data):
    """Castagnoli's, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ crc_table()[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@functools.cache
def crc_table():
    def entry(value):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        return value

    return [entry(value) for value in range(256)]


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_shards(folder, letter, split, videos, num_shards):
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(num_shards):
        name = f"movi_{letter}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"
        with (folder / name).open("wb") as file:
            for video in videos[shard::num_shards]:
                data, length = serialize(video), struct.pack("<Q", len(serialize(video)))
                file.write(length + masked(length) + data + masked(data))


def draw(letter, seed):
    """A video as Kubric has it: [T, H, W, ...] arrays and per-instance lists."""
    rng = np.random.default_rng(seed)
    count = 2 + seed % 3
    corner = rng.integers(0, SIDE - 20, (count, FRAMES, 2))
    video = np.full((FRAMES, SIDE, SIDE, 3), 7, np.uint8)
    labels = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    boxes, moments = [], []
    for i in range(count):
        seen = sorted(rng.choice(FRAMES, FRAMES - 5, replace=False).tolist()) if i else []
        for t in seen:
            y, x = corner[i, t]
            labels[t, y : y + 20, x : x + 10] = i + 1
            video[t, y : y + 20, x : x + 10] = 20 * i + t
        moments.append(seen)
        boxes.append([np.array([y, x, y + 20, x + 10]) / SIDE for y, x in corner[i][seen]])
    pixels = np.stack([(labels == i + 1).sum((1, 2)) for i in range(count)])
    floats = {
        "positions": rng.normal(size=(count, FRAMES, 3)),
        "image_positions": rng.random((count, FRAMES, 2)),
        "mass": rng.random(count),
        "scale": rng.random(count),
        "color": rng.random((count, 3)),
    }
    codes = {name: rng.integers(0, size, count) for name, size in KINDS[letter].items()}
    return {
        "video": video,
        "labels": labels,
        "boxes": boxes,
        "moments": moments,
        "pixels": pixels,
        "floats": floats,
        "codes": codes,
    }


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return file.getvalue()


def serialize(video):
    """As TFDS's serializer: nested names by slashes, nested sequences flat with row lengths."""
    example = tf_example_pb2.Example()

    def feature(name):
        return example.features.feature[name]

    count = len(video["boxes"])
    feature("metadata/video_name").bytes_list.value.append(b"1234")
    feature("metadata/num_instances").int64_list.value.append(count)
    feature("metadata/depth_range").float_list.value.extend([0.5, 9.5])
    feature("video").bytes_list.value.extend(png(frame) for frame in video["video"])
    feature("segmentations").bytes_list.value.extend(png(frame) for frame in video["labels"])
    feature("forward_flow").int64_list.value.extend([65535, 0, 300] * 100)
    feature("events/collisions/instances").int64_list.value.extend([65535, 1])
    for name, values in video["floats"].items():
        feature(f"instances/{name}").float_list.value.extend(np.ravel(values).tolist())
    for name, values in {**video["codes"], "visibility": video["pixels"]}.items():
        feature(f"instances/{name}").int64_list.value.extend(np.ravel(values).tolist())
    lengths = [len(moments) for moments in video["moments"]]
    for name in ("bboxes", "bbox_frames"):
        feature(f"instances/{name}/ragged_row_lengths_0").int64_list.value.extend(lengths)
    flat = [t for moments in video["moments"] for t in moments]
    feature("instances/bbox_frames/ragged_flat_values").int64_list.value.extend(flat)
    boxes = [x for boxes in video["boxes"] for box in boxes for x in box]
    feature("instances/bboxes/ragged_flat_values").float_list.value.extend(boxes)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory):
    """MOVi-C with three splits, and a training video of each of the others."""
    root = tmp_path_factory.mktemp("movi")
    folder = root / "movi_c" / "128x128" / "1.0.0"
    write_shards(folder, "c", "train", [draw("c", seed) for seed in range(3)], 2)
    write_shards(folder, "c", "validation", [draw("c", 3)], 1)
    write_shards(folder, "c", "test", [draw("c", 4)], 1)
    splits = [{"name": n, "shardLengths": ["1"] * k} for n, k in (("train", 2), ("validation", 1))]
    (folder / "dataset_info.json").write_text(json.dumps({"splits": splits}))
    (root / "movi_c" / "256x256").mkdir()
    (root / "movi_c" / "256x256" / "movi_c-train.tfrecord-00000-of-00001").touch()
    for letter in "abde":
        folder = root / f"movi_{letter}" / "128x128" / "1.0.0"
        write_shards(folder, letter, "train", [draw(letter, 5)], 1)
    return root


def load(data_dir, config, split="train"):
    return list(tfds.builder(f"movi/{config}", data_dir=data_dir).as_data_source(split=split))


def check(got, video, t):
    """One frame, or with t = slice(None) a whole video."""
    count = len(video["boxes"])
    np.testing.assert_array_equal(got["image" if "image" in got else "video"], video["video"][t])
    np.testing.assert_array_equal(got["segmentation"], video["labels"][t])
    listed = np.arange(len(got["visibility"])) <= count
    np.testing.assert_array_equal(got["visibility"], listed)
    boxes = np.zeros((count, FRAMES, 4))
    for i in range(count):
        for moment, box in zip(video["moments"][i], video["boxes"][i], strict=True):
            boxes[i, moment] = box
    expected = {
        "box": boxes[:, t],
        "position": video["floats"]["positions"][:, t],
        "image_position": video["floats"]["image_positions"][:, t],
        "pixels": video["pixels"][:, t],
        "mass": video["floats"]["mass"],
    }
    for name, array in expected.items():
        np.testing.assert_allclose(got[name][1 : count + 1], array, rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(got[name][~listed | (np.arange(len(listed)) == 0)], 0)


def test_frames_and_videos(tmp_path, raw_dir):
    order = [0, 2, 1]  # of the videos in two shards
    for config, frames in (("c_128_every8", (0, 8, 16)), ("c_128_video", (slice(None),))):
        prepare(f"movi/{config}", tmp_path, raw_dir=raw_dir)
        for split, seeds in (("train", order), ("validation", [3]), ("test", [4])):
            records = load(tmp_path, config, split)
            assert len(records) == len(seeds) * len(frames)
            for i, record in enumerate(records):
                check(record, draw("c", seeds[i // len(frames)]), frames[i % len(frames)])


@pytest.mark.parametrize("letter", KINDS)
def test_attributes(letter, tmp_path, raw_dir):
    prepare(f"movi/{letter}_128_every24", tmp_path, raw_dir=raw_dir)
    builder = tfds.builder(f"movi/{letter}_128_every24", data_dir=tmp_path)
    video = draw(letter, 0 if letter == "c" else 5)
    record = builder.as_data_source(split="train")[0]
    check(record, video, 0)
    count, names = len(video["boxes"]), builder.info.metadata["vocabularies"]
    for stored, codes in video["codes"].items():
        name = stored.removesuffix("_label")
        if name == "is_dynamic":
            np.testing.assert_array_equal(record[name][1 : count + 1], codes)
        else:
            assert len(names[name]) == KINDS[letter][stored] + 1
            np.testing.assert_array_equal(record[name][1 : count + 1], codes + 1)
            assert record[name][0] == 0
    for name in {"color", "scale"} & record.keys() - names.keys():
        np.testing.assert_allclose(record[name][1 : count + 1], video["floats"][name], rtol=1e-6)


def test_splits_end_after_max_records(tmp_path, raw_dir):
    path = prepare("movi/c_128_every24", tmp_path, raw_dir=raw_dir, max_records=2)
    sizes = {split: len(load(tmp_path, "c_128_every24", split)) for split in ("train", "test")}
    assert sizes == {"train": 2, "test": 1}
    first = (path / "dataset_info.json").stat().st_ino
    prepare("movi/c_128_every24", tmp_path, raw_dir=raw_dir, max_records=2)
    assert (path / "dataset_info.json").stat().st_ino == first
    prepare("movi/c_128_every24", tmp_path, raw_dir=raw_dir, max_records=3)
    assert len(load(tmp_path, "c_128_every24")) == 3


def test_bucket(tmp_path, raw_dir, monkeypatch):
    """What `dataset_info.json` counts is downloaded, and no shard that is not needed."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path.split("/")[-1])
            super().do_GET()

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=raw_dir)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(movi, "BUCKET", f"http://127.0.0.1:{server.server_port}")
        prepare("movi/c_128_every24", tmp_path, max_records=1)
        server.shutdown()
        thread.join()
    assert len(load(tmp_path, "c_128_every24")) == 1
    assert set(asked) == {
        "dataset_info.json",
        "movi_c-train.tfrecord-00000-of-00002",
        "movi_c-validation.tfrecord-00000-of-00001",
    }


@pytest.mark.parametrize("config", ["c_128_every24", "c_128_video"])
def test_contact_sheet(config, tmp_path, raw_dir):
    prepare(f"movi/{config}", tmp_path, raw_dir=raw_dir, max_records=2)
    path = contact_sheet(f"movi/{config}", tmp_path, tmp_path / "sheet.png", split="train")
    picture = np.asarray(Image.open(path))
    first = draw("c", 0)["video"][0]
    side = 192  # of a picture on the sheet
    shown = np.asarray(Image.fromarray(first).resize((side, side), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(picture[8 : 8 + side, 8 : 8 + side], shown)


def altered(change):
    video = draw("c", 0)
    change(video)
    return video


def many_labels(video):
    video["labels"][0, 0, 0] = 11


def no_color(video):
    video["video"] = video["video"][..., 0]


BAD = {
    "short": (lambda v: v.update(video=v["video"][:12]), "video: has 12 frames, expected 24"),
    "size": (lambda v: v.update(labels=v["labels"][:, :64]), "segmentations: 128x64 pixels"),
    "gray": (no_color, "mode L, expected 128x128 of mode RGB"),
    "labels": (many_labels, "has label 11, expected less than 11"),
    "mass": (lambda v: v["floats"].pop("mass"), "has no field instances/mass"),
    "positions": (lambda v: v["floats"].update(positions=[1.0]), "has 1 values, expected"),
    "kind": (lambda v: v["codes"].update(positions=[1]), "expected float_list, found|has 1 values"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_videos_are_refused_in_one_line(case, tmp_path):
    change, message = BAD[case]
    write_shards(tmp_path / "raw", "c", "train", [draw("c", 1), altered(change)], 1)
    pattern = rf"movi_c-train\.tfrecord-00000-of-00001: record 1: .*({message}).*movi/c_128_every24"
    with pytest.raises(DatasetError, match=pattern) as error:
        prepare("movi/c_128_every24", tmp_path / "data", raw_dir=tmp_path / "raw")
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path, raw_dir):
    with pytest.raises(DatasetError, match=r"has no movi_c-train\.tfrecord"):
        prepare("movi/c_128", tmp_path / "data", raw_dir=raw_dir / "movi_a")
    write_shards(tmp_path / "raw", "c", "train", [draw("c", seed) for seed in range(2)], 2)
    (tmp_path / "raw" / "movi_c-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(DatasetError, match="tfrecord-00001-of-00002 is missing"):
        prepare("movi/c_128", tmp_path / "data", raw_dir=tmp_path / "raw")
