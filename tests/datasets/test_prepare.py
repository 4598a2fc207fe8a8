"""Preparing: right data, kept while they serve, and nothing half-done ever trusted."""

import functools
import gzip
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from datasets import builder, multi_object, schemas, shards, tfrecord
from datasets.errors import DatasetError
from datasets.prepare import prepare
from datasets.scenes import tetrominoes as scenes

ROOT = Path(__file__).parents[2]
FILE = "tetrominoes_train.tfrecords"


def records(count, seed=0):
    drawn = scenes.batch(seed, np.arange(count))
    return [{name: values[i] for name, values in drawn.items()} for i in range(count)]


@pytest.fixture
def raw_dir(tmp_path):
    directory = tmp_path / "raw"
    directory.mkdir()
    multi_object.write(directory / FILE, "tetrominoes", records(20))
    return directory


def names(data_dir, split="train"):
    return tfds.builder("tetrominoes/official", data_dir=data_dir).as_data_source(split=split)


def leftovers(data_dir):
    """Everything under `data_dir` that is not a finished version."""
    return [
        path
        for path in data_dir.rglob("*")
        if (path.is_file() and path.parent.name != "1.0.0") or "prepar" in path.name
    ]


def assert_nothing_prepared(data_dir):
    assert not list(data_dir.rglob("*.json"))
    assert not leftovers(data_dir)


def test_official_records_in_file_order(tmp_path, raw_dir):
    path = prepare("tetrominoes/official", tmp_path / "data", raw_dir=raw_dir)
    assert path == tmp_path / "data/tetrominoes/official/1.0.0"
    source = names(tmp_path / "data")
    assert len(source) == 20
    for got, expected in zip(source, records(20), strict=True):
        assert got.keys() == expected.keys()
        for name in got:
            assert got[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(got[name], expected[name])
    assert not leftovers(tmp_path / "data")


def test_serialises_as_tfds_does():
    features = tfds.builder_cls("tetrominoes")(config="official", data_dir="/nowhere").info.features
    (record,) = records(1)
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    expected = serializer.get_tf_example(features.encode_example(record))
    got = shards.Serializer(features.get_tensor_info())(record)
    assert type(expected).FromString(got) == expected


def test_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    prepare("tetrominoes/procedural", tmp_path, max_records=40)
    source = tfds.builder("tetrominoes/procedural", data_dir=tmp_path).as_data_source(split="train")
    assert len(list((tmp_path / "tetrominoes/procedural/1.0.0").glob("*.array_record*"))) > 5
    for got, expected in zip(source, records(40), strict=True):
        np.testing.assert_array_equal(got["image"], expected["image"])


def test_read_without_the_builder(tmp_path):
    prepare("tetrominoes/procedural", tmp_path, max_records=3)
    script = (
        "import sys, tensorflow_datasets as tfds\n"
        f"b = tfds.builder('tetrominoes/procedural', data_dir={str(tmp_path)!r})\n"
        "assert len(b.as_data_source(split='train[:2]')) == 2\n"
        "m = b.info.metadata\n"
        "assert m['background_ids'] == [0] and m['num_entities'] == 4 and m['procedural']\n"
        "assert m['vocabularies']['shape'][1] == 'I0'\n"
        "assert not {'datasets', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=tmp_path)


def test_prepared_data_are_kept_while_they_serve(tmp_path, raw_dir):
    data_dir = tmp_path / "data"
    path = prepare("tetrominoes/official", data_dir, raw_dir=raw_dir, max_records=5)
    first = (path / "dataset_info.json").stat().st_ino
    prepare("tetrominoes/official", data_dir, raw_dir=raw_dir, max_records=4)
    assert (path / "dataset_info.json").stat().st_ino == first
    prepare("tetrominoes/official", data_dir, raw_dir=raw_dir, max_records=6)
    assert len(names(data_dir)) == 6
    prepare("tetrominoes/official", data_dir, raw_dir=raw_dir)
    assert len(names(data_dir)) == 20
    whole = (path / "dataset_info.json").stat().st_ino
    prepare("tetrominoes/official", data_dir, max_records=1000)  # the file has no more
    assert (path / "dataset_info.json").stat().st_ino == whole
    assert not leftovers(data_dir)


def test_another_raw_file_is_prepared_again(tmp_path, raw_dir):
    prepare("tetrominoes/official", tmp_path, raw_dir=raw_dir)
    multi_object.write(raw_dir / FILE, "tetrominoes", records(7, seed=1))
    prepare("tetrominoes/official", tmp_path, raw_dir=raw_dir)
    assert len(names(tmp_path)) == 7


def test_seed_and_number_of_scenes(tmp_path):
    def image(seed, max_records):
        prepare("tetrominoes/procedural", tmp_path, seed=seed, max_records=max_records)
        source = tfds.builder("tetrominoes/procedural", data_dir=tmp_path).as_data_source("train")
        assert len(source) >= max_records
        return source[0]["image"]

    np.testing.assert_array_equal(image(0, 3), image(0, 5))
    assert (image(1, 3) != image(0, 3)).any()


def test_a_failed_replacement_keeps_what_was_there(tmp_path, raw_dir):
    data_dir = tmp_path / "data"
    prepare("tetrominoes/official", data_dir, raw_dir=raw_dir, max_records=5)
    content = (raw_dir / FILE).read_bytes()
    (raw_dir / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError):
        prepare("tetrominoes/official", data_dir, raw_dir=raw_dir)
    assert len(names(data_dir)) == 5
    assert not leftovers(data_dir)


@pytest.mark.parametrize("damage", ["empty", "html", "truncated", "flipped", "no records"])
def test_damaged_files_leave_nothing(tmp_path, raw_dir, damage):
    content = (raw_dir / FILE).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    (raw_dir / FILE).write_bytes(
        {
            "empty": b"",
            "html": b"<html></html>",
            "truncated": content[:-50],
            "flipped": bytes(flipped),
            "no records": gzip.compress(b""),
        }[damage]
    )
    with pytest.raises(DatasetError, match=FILE) as info:
        prepare("tetrominoes/official", tmp_path / "data", raw_dir=raw_dir)
    assert "\n" not in str(info.value)
    assert_nothing_prepared(tmp_path / "data")


def test_no_file_and_no_network(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match=r"there is neither .*tetrominoes_train.*:procedural"):
        prepare("tetrominoes/official", tmp_path, raw_dir=tmp_path / "nowhere")
    monkeypatch.setattr(builder, "BUCKET", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(DatasetError, match=r"download failed.*get http.*:procedural"):
        prepare("tetrominoes/official", tmp_path)
    assert_nothing_prepared(tmp_path)


@pytest.fixture
def bucket(raw_dir, monkeypatch):
    """The public bucket, played by a local server; `stop()` unplugs it."""
    (raw_dir / "tetrominoes").mkdir()
    (raw_dir / FILE).rename(raw_dir / "tetrominoes" / FILE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=raw_dir)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(builder, "BUCKET", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def test_download(tmp_path, bucket):
    """Through TFDS's manager, once: a later run without the network uses what was downloaded."""
    data_dir = tmp_path / "data"
    stale = data_dir / "downloads/tetrominoes/official/tetrominoes/x.tmp.123"
    stale.mkdir(parents=True)  # of a run that was killed while it downloaded
    prepare("tetrominoes/official", data_dir, max_records=5)
    assert len(names(data_dir)) == 5
    assert not stale.exists()
    bucket.shutdown()
    bucket.server_close()
    prepare("tetrominoes/official", data_dir)
    assert len(names(data_dir)) == 20


def test_a_damaged_download_is_not_kept(tmp_path, raw_dir, bucket):
    file = raw_dir / "tetrominoes" / FILE
    content = file.read_bytes()
    file.write_bytes(b"<html>please log in</html>")
    with pytest.raises(DatasetError, match="HTML"):
        prepare("tetrominoes/official", tmp_path / "data")
    file.write_bytes(content)
    prepare("tetrominoes/official", tmp_path / "data")
    assert len(names(tmp_path / "data")) == 20


def test_unknown_names(tmp_path):
    for name in ("tetris/official", "tetrominoes", "tetrominoes/x", "prepare/x", "../x/y"):
        with pytest.raises(DatasetError, match="dataset="):
            prepare(name, tmp_path)
    with pytest.raises(DatasetError, match="max_records=0"):
        prepare("tetrominoes/procedural", tmp_path, max_records=0)


def test_unwritable_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"data_dir=.*file.*directory"):
        prepare("tetrominoes/procedural", tmp_path / "file", max_records=2)


def test_disk_full(tmp_path, monkeypatch):
    """A writer that fails as ArrayRecord's does on a full disk."""
    real = shards.ArrayRecordWriter
    monkeypatch.setattr(
        shards, "ArrayRecordWriter", lambda path, options: real("/dev/full", options)
    )
    with pytest.raises(DatasetError, match="the disk is full"):
        prepare("tetrominoes/procedural", tmp_path, max_records=2)
    assert_nothing_prepared(tmp_path)


def test_process_index_is_checked(tmp_path):
    with pytest.raises(DatasetError, match="process_index=2: expected 0 to num_processes - 1 = 1"):
        prepare("tetrominoes/procedural", tmp_path, num_processes=2, process_index=2)


RUN = """
import sys
from datasets.prepare import prepare
prepare(sys.argv[1], sys.argv[2], raw_dir=sys.argv[3])
"""
SLOW_RUN = """
import json, sys, time
import tensorflow_datasets as tfds
import datasets.tetrominoes
from datasets import prepare, shards

shards.SHARD_BYTES = 20_000
prepare._POLL_SECONDS = 0.05
variant = tfds.builder_cls("tetrominoes").builder_configs["procedural"]
draw = variant.draw

def slow(seed, index):
    print("drawing", flush=True)
    time.sleep(0.2)
    return draw(seed, index)

variant.draw = slow
prepare.prepare("tetrominoes/procedural", sys.argv[1], **json.loads(sys.argv[2]))
"""


def start(data_dir, **arguments):
    """A process of its own that prepares, 0.2 s for every 256 scenes."""
    command = [sys.executable, "-c", SLOW_RUN, str(data_dir), json.dumps(arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def start_drawing(data_dir, **arguments):
    """As `start`; returns when it draws."""
    process = start(data_dir, **arguments)
    assert process.stdout.readline() == "drawing\n"
    return process


def test_killed_run_leaves_no_debris_after_the_next(tmp_path):
    process = start_drawing(tmp_path, max_records=20_000)
    time.sleep(0.5)
    process.kill()
    process.wait(30)
    assert leftovers(tmp_path)
    assert not (tmp_path / "tetrominoes/procedural").exists()
    prepare("tetrominoes/procedural", tmp_path, max_records=30)
    assert not leftovers(tmp_path)
    source = tfds.builder("tetrominoes/procedural", data_dir=tmp_path).as_data_source("train")
    assert len(source) == 30


def test_killed_while_a_thread_reads_ahead(tmp_path):
    """Large records are read by a thread of its own, where there is a second core."""
    name, data_dir, raw_dir = "clevr_with_masks/official", tmp_path / "data", tmp_path / "raw"
    schema = schemas.find("clevr_with_masks")
    blank = {field: np.zeros(f.shape, f.dtype) for field, f in schema.fields.items()}
    data = multi_object.encode(blank, schema)
    raw_dir.mkdir()
    tfrecord.write_records(raw_dir / Path(schema.file).name, itertools.repeat(data, 200))
    process = subprocess.Popen([sys.executable, "-c", RUN, name, data_dir, raw_dir], cwd=ROOT)
    while not list(data_dir.rglob("shard-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait(30)
    assert leftovers(data_dir)
    assert not (data_dir / name).exists()
    prepare(name, data_dir, raw_dir=raw_dir, max_records=3)
    assert not leftovers(data_dir)
    assert len(tfds.builder(name, data_dir=data_dir).as_data_source("train")) == 3


def test_two_processes_at_once(tmp_path):
    process = start_drawing(tmp_path, max_records=600)
    path = prepare("tetrominoes/procedural", tmp_path, max_records=600)
    assert process.wait(30) == 0
    assert not leftovers(tmp_path)
    source = tfds.builder("tetrominoes/procedural", data_dir=tmp_path).as_data_source("train")
    assert len(source) == 600
    assert path.is_dir()


def test_drawn_in_parts(tmp_path):
    """Two processes; one dies with its part done and comes again; the records are the same."""
    first = start(tmp_path, max_records=50, num_processes=2, process_index=1)
    while not list((tmp_path / "tetrominoes/.parts.procedural").rglob("shards.json")):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait(30)
    processes = [
        start(tmp_path, max_records=50, num_processes=2, process_index=index) for index in range(2)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert not leftovers(tmp_path)
    source = tfds.builder("tetrominoes/procedural", data_dir=tmp_path).as_data_source("train")
    assert len(source) == 50
    for got, expected in zip(source, records(50), strict=True):
        np.testing.assert_array_equal(got["image"], expected["image"])
        np.testing.assert_array_equal(got["shape"], expected["shape"])


def test_other_content_of_the_same_size_is_prepared_again(tmp_path):
    for seed in (0, 7):
        examples = records(4, seed)
        multi_object.write(
            tmp_path / "tetrominoes_train.tfrecords", "tetrominoes", examples, compressed=False
        )
        prepare("tetrominoes/official", tmp_path / "data", raw_dir=tmp_path)
        source = tfds.builder("tetrominoes/official", data_dir=tmp_path / "data").as_data_source()
        found = source["train"][0]["image"]
        np.testing.assert_array_equal(found, examples[0]["image"])


@pytest.mark.parametrize("harm", ["empty", "gone", "shard cut", "shard gone", "pointer"])
def test_damage_to_what_is_prepared_is_mended(harm, tmp_path):
    path = prepare("tetrominoes/procedural", tmp_path, max_records=4)
    before = prepare("tetrominoes/procedural", tmp_path, max_records=4)
    assert before == path
    (shard,) = path.glob("*.array_record*")
    if harm == "empty":
        (path / "dataset_info.json").write_text("")
    elif harm == "gone":
        (path / "metadata.json").unlink()
    elif harm == "shard gone":
        shard.unlink()
    elif harm == "shard cut":
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    else:
        shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    prepare("tetrominoes/procedural", tmp_path, max_records=4)
    source = tfds.builder("tetrominoes/procedural", data_dir=tmp_path).as_data_source()["train"]
    assert len(source) == 4
    assert source[3]["image"].shape == (35, 35, 3)


def test_a_config_on_another_disk(tmp_path):
    """A link: what is prepared is renamed there, so it must be prepared there."""
    disk = Path(tempfile.mkdtemp(dir="/dev/shm")) if os.path.isdir("/dev/shm") else tmp_path / "d"
    try:
        disk.mkdir(exist_ok=True)
        (tmp_path / "data" / "tetrominoes").mkdir(parents=True)
        (tmp_path / "data" / "tetrominoes" / "procedural").symlink_to(disk)
        prepare("tetrominoes/procedural", tmp_path / "data", max_records=4)
        assert [path.name for path in disk.iterdir()] == ["1.0.0"]
    finally:
        shutil.rmtree(disk)
