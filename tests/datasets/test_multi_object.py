"""The reader against an independent tf.train.Example writer, and against every kind of damage."""

import gzip
import struct
import threading

import google_crc32c
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from datasets import multi_object, schemas, tfrecord, wire
from datasets.errors import DatasetError

NAMES = sorted(schemas.SCHEMAS)


def reference_example(record, schema):
    """The published layout through the real protobuf classes, one string per element."""
    example = tf_example_pb2.Example()
    feature = example.features.feature
    labels = record["segmentation"]
    masks = np.stack([(labels == e) * np.uint8(255) for e in range(schema.num_entities)])
    if not schema.entities_first:
        masks = masks.transpose(1, 2, 0)
    for name, values in {**record, "mask": masks}.items():
        if name == "segmentation":
            continue
        if values.dtype == np.uint8:
            feature[name].bytes_list.value.extend(bytes([v]) for v in values.ravel().tolist())
        else:
            feature[name].float_list.value.extend(values.ravel().tolist())
    return example


def reference_frame(data):
    def masked(part):
        crc = google_crc32c.value(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name].dtype == values.dtype, name
        np.testing.assert_array_equal(got[name], values, err_msg=name)


@pytest.fixture
def records(random_record):
    rng = np.random.default_rng(0)
    return [random_record(schemas.find("tetrominoes"), rng) for _ in range(3)]


@pytest.fixture
def plain(tmp_path, records):
    path = tmp_path / "tetrominoes_train.tfrecords"
    multi_object.write(path, "tetrominoes", records, compressed=False)
    return path


def message(path, dataset="tetrominoes"):
    with pytest.raises(DatasetError) as info:
        list(multi_object.read(path, dataset))
    text = str(info.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("dataset", NAMES)
@pytest.mark.parametrize("compressed", [False, True])
def test_reads_what_protobuf_wrote(tmp_path, random_record, dataset, compressed):
    schema = schemas.find(dataset)
    rng = np.random.default_rng(1)
    records = [random_record(schema, rng) for _ in range(2)]
    frames = b"".join(
        reference_frame(reference_example(r, schema).SerializeToString()) for r in records
    )
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(frames) if compressed else frames)
    for got, expected in zip(multi_object.read(path, dataset), records, strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize("dataset", NAMES)
def test_protobuf_reads_what_we_write(random_record, dataset):
    schema = schemas.find(dataset)
    record = random_record(schema, np.random.default_rng(2))
    data = multi_object.encode(record, schema)
    assert tf_example_pb2.Example.FromString(data) == reference_example(record, schema)


def test_write_then_read_is_the_identity(tmp_path, records):
    path = tmp_path / "file"
    assert multi_object.write(path, "tetrominoes", records) == 3
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    for got, expected in zip(multi_object.read(path, "tetrominoes"), records, strict=True):
        assert_same(got, expected)


def test_later_entities_win_where_masks_overlap(tmp_path, records):
    record = records[0]
    mask = np.zeros((4, 35, 35, 1), np.uint8)
    mask[0], mask[1, :10], mask[3, 5:7] = 255, 255, 255
    del record["segmentation"]
    multi_object.write(tmp_path / "file", "tetrominoes", [{**record, "mask": mask}])
    (got,) = multi_object.read(tmp_path / "file", "tetrominoes")
    expected = np.zeros((35, 35), np.uint8)
    expected[:10], expected[5:7] = 1, 3
    np.testing.assert_array_equal(got["segmentation"], expected)


def test_records_before_the_damage_are_read(plain, records):
    content = bytearray(plain.read_bytes())
    content[-100] ^= 1
    plain.write_bytes(content)
    reader = multi_object.read(plain, "tetrominoes")
    assert_same(next(reader), records[0])
    assert_same(next(reader), records[1])
    with pytest.raises(DatasetError, match="record 2: the data's checksum is wrong"):
        next(reader)


def test_empty_file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert "is empty" in message(path)


def test_missing_file(tmp_path):
    assert "cannot be opened" in message(tmp_path / "nowhere")


def test_html_page(tmp_path):
    path = tmp_path / "file"
    path.write_text("\n<!DOCTYPE html><html>404</html>")
    assert "HTML" in message(path)


def test_some_other_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    assert "record 0: the header's checksum is wrong" in message(path)


@pytest.mark.parametrize("keep", [5, 1000, -1, -30])
def test_truncated_plain_file(plain, keep):
    plain.write_bytes(plain.read_bytes()[:keep])
    assert "record " in message(plain)


@pytest.mark.parametrize("keep", [15, 1000, -1, -30])
def test_truncated_gzip_file(plain, keep):
    plain.write_bytes(gzip.compress(plain.read_bytes())[:keep])
    assert "truncated" in message(plain)


def test_garbage_after_the_gzip_stream(plain):
    plain.write_bytes(gzip.compress(plain.read_bytes()) + b"garbage")
    assert "does not end where the file ends" in message(plain)


def test_another_dataset_or_variant(plain, tmp_path, random_record):
    assert "expected the fields" in message(plain, "objects_room/train")
    grey = random_record(
        schemas.find("multi_dsprites/colored_on_grayscale"), np.random.default_rng(0)
    )
    path = tmp_path / "grey"
    multi_object.write(path, "multi_dsprites/colored_on_grayscale", [grey])
    text = message(path, "multi_dsprites/colored_on_colored")
    assert "64x64x5x1" in text
    assert "multi_dsprites/colored_on_colored" in text


def corrupt(tmp_path, records, change):
    """Writes one record whose protobuf `change` has altered, with correct checksums."""
    example = reference_example(records[0], schemas.find("tetrominoes"))
    change(example.features.feature)
    path = tmp_path / "changed"
    path.write_bytes(reference_frame(example.SerializeToString()))
    return path


def test_wrong_schemas(tmp_path, records):
    def long_string(feature):
        feature["image"].bytes_list.value[7] = b"ab"

    def two_in_one(feature):  # the payload keeps its length
        feature["image"].bytes_list.value[7] = b""
        feature["image"].bytes_list.value[8] = b"ab"

    def ints(feature):
        feature["x"].int64_list.value.extend([1, 2, 3, 4])

    def short(feature):
        del feature["x"].float_list.value[0]

    def grey_mask(feature):
        feature["mask"].bytes_list.value[3] = b"\x01"

    def half_visible(feature):
        feature["visibility"].float_list.value[0] = 0.5

    def one_more(feature):
        feature["extra"].float_list.value.append(1)

    expectations = {
        long_string: "image: expected 35x35x3 = 3675 one-byte strings",
        two_in_one: "image: expected one-byte strings",
        ints: "x: expected a float_list, found int64_list",
        short: "x: expected 4 = 4 packed floats",
        grey_mask: "mask: expected the values 0 and 255",
        half_visible: "visibility: expected the values 0 and 1",
        one_more: "expected the fields",
    }
    for change, expected in expectations.items():
        assert expected in message(corrupt(tmp_path, records, change)), change.__name__


@pytest.mark.parametrize("dataset", NAMES)
@pytest.mark.parametrize("at", [0, -1])
def test_wrong_values_in_any_mask(tmp_path, random_record, dataset, at):
    """The first or the last value of the masks; large masks are merged one by one."""
    schema = schemas.find(dataset)
    record = random_record(schema, np.random.default_rng(3))
    record["mask"] = np.zeros(schema.mask.shape, np.uint8)
    record["mask"].flat[at] = 0xFE
    multi_object.write(tmp_path / "file", dataset, [record])
    assert "mask: expected the values 0 and 255" in message(tmp_path / "file", dataset)


def test_not_an_example(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(reference_frame(b"\xff" * 50))
    assert "record 0: the data is not a tf.train.Example" in message(path)


def test_names_of_datasets(plain):
    for name in ("tetrominoes", "tetrominoes/official", "tetrominoes_train"):
        assert len(list(multi_object.read(plain, name))) == 3
    with pytest.raises(DatasetError, match="dataset='tetris'"):
        multi_object.read(plain, "tetris")


def test_write_refuses_what_read_would(tmp_path, records):
    path = tmp_path / "file"
    with pytest.raises(DatasetError, match="record 0: color is missing"):
        multi_object.write(
            path, "tetrominoes", [{k: v for k, v in records[0].items() if k != "color"}]
        )
    with pytest.raises(DatasetError, match="record 1: x has shape"):
        multi_object.write(path, "tetrominoes", [records[0], {**records[1], "x": np.zeros(3)}])
    labels = np.full((35, 35), 4, np.uint8)
    with pytest.raises(DatasetError, match="the largest label 4"):
        multi_object.write(path, "tetrominoes", [{**records[0], "segmentation": labels}])


@pytest.mark.parametrize("dataset", ["tetrominoes", "multi_dsprites/binarized", "clevr_with_masks"])
def test_the_bad_record_of_many(tmp_path, random_record, monkeypatch, dataset):
    """Small records are decoded together, large ones read ahead: those before it come out."""
    monkeypatch.setattr(tfrecord, "_cores", lambda: 2)
    threads = threading.active_count()
    schema = schemas.find(dataset)
    rng = np.random.default_rng(4)
    records = [random_record(schema, rng) for _ in range(7)]
    bad = {**records[5], "visibility": np.full(schema.num_entities, 0.5, np.float32)}
    path = tmp_path / "file"
    multi_object.write(path, dataset, [*records[:5], bad, records[6]])
    reader = multi_object.read(path, dataset)
    for expected in records[:5]:
        assert_same(next(reader), expected)
    with pytest.raises(DatasetError, match="record 5: visibility"):
        next(reader)
    assert threading.active_count() == threads, "the thread that read ahead has ended"


def test_fields_in_another_order(tmp_path, records):
    """Protobuf's maps have no order, so records that are decoded together may differ in it."""
    schema = schemas.find("tetrominoes")
    whole = [multi_object.encode(record, schema) for record in records]
    features = wire.find_features(whole[1])
    turned = {name: (kind, whole[1][slice(*span)]) for name, kind, span in reversed(features)}
    whole[1] = wire.make_example(turned)
    path = tmp_path / "file"
    path.write_bytes(b"".join(map(reference_frame, whole)))
    for got, expected in zip(multi_object.read(path, "tetrominoes"), records, strict=True):
        assert_same(got, expected)


def test_reads_a_few_records_ahead(tmp_path, monkeypatch):
    """The memory of large records is bounded, and a reader that is dropped leaves no thread."""
    monkeypatch.setattr(tfrecord, "_cores", lambda: 2)
    path = tmp_path / "file"
    tfrecord.write_records(path, [b"data"] * 12)
    file = tfrecord.RecordFile(path)
    before = threading.active_count()
    batches = file.batches(1)
    assert next(batches) == [b"data"]
    assert threading.active_count() == before + 1
    batches.close()
    assert file._number < 6
    assert threading.active_count() == before
