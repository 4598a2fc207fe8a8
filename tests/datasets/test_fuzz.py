"""Thousands of damaged files: the reader refuses with DatasetError or yields true records."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zlib_ng import gzip_ng

from datasets import multi_object, schemas, tfrecord
from datasets.errors import DatasetError

SCHEMA = schemas.Schema(
    name="tiny",
    image=(3, 4, 3),
    num_entities=3,
    attributes=(
        ("x", schemas.Field((3,), "float32")),
        ("code", schemas.Field((3,), "uint8")),
        ("visibility", schemas.Field((3,), "float32")),
    ),
)
FUZZ = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

position = st.integers(0, 10_000)
edit = st.one_of(
    st.tuples(st.just("flip"), position, st.integers(0, 7)),
    st.tuples(st.just("set"), position, st.integers(0, 255)),
    st.tuples(st.just("cut"), position, st.integers(1, 200)),
    st.tuples(st.just("keep"), position, st.just(0)),
    st.tuples(st.just("insert"), position, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("repeat"), position, st.integers(1, 600)),
)


def damaged(content, edits):
    for kind, where, what in edits:
        at = where % max(len(content), 1)
        if not content:
            return content
        if kind == "flip":
            content = content[:at] + bytes([content[at] ^ (1 << what)]) + content[at + 1 :]
        elif kind == "set":
            content = content[:at] + bytes([what]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + what :]
        elif kind == "keep":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + what + content[at:]
        else:
            content = content[:at] + content[at : at + what] + content[at:]
    return content


@pytest.fixture(scope="module")
def records(random_record):
    rng = np.random.default_rng(0)
    return [random_record(SCHEMA, rng) for _ in range(3)]


@pytest.fixture(scope="module")
def encoded(records):
    return [multi_object.encode(record, SCHEMA) for record in records]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.fixture(scope="module")
def content(encoded, file):
    tfrecord.write_records(file, encoded, compressed=False)
    return file.read_bytes()


def read(file):
    """The records before the first error, and whether there was one."""
    found, message = [], ""
    try:
        for record in multi_object.decode(tfrecord.RecordFile(file), SCHEMA):
            found.append(record)
    except DatasetError as error:
        message = str(error)
    assert "\n" not in message
    assert not message or str(file) in message
    return found, bool(message)


def key(record):
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in record.items()}


@FUZZ
@given(edits=st.lists(edit, min_size=1, max_size=3), compressed=st.booleans())
def test_damaged_bytes(file, content, records, edits, compressed):
    """Whatever the damage, a record that comes out is one that went in."""
    raw = gzip_ng.compress(content, 1) if compressed else content
    file.write_bytes(damaged(raw, edits))
    found, _ = read(file)
    originals = [key(record) for record in records]
    for record in found:
        assert key(record) in originals


@FUZZ
@given(edits=st.lists(edit, min_size=1, max_size=3), compressed=st.booleans())
def test_damaged_records_with_true_checksums(file, encoded, edits, compressed):
    """No checksum helps: a record still has the schema's fields, shapes, types and values."""
    tfrecord.write_records(file, [damaged(encoded[0], edits)], compressed=compressed)
    found, failed = read(file)
    assert failed != bool(found)
    for record in found:
        assert record["segmentation"].shape == (3, 4)
        assert record["segmentation"].max() < 3
        assert record["image"].shape == (3, 4, 3)
        assert set(np.unique(record["visibility"])) <= {0, 1}
        for name, field in SCHEMA.attributes:
            assert record[name].shape == field.shape
            assert record[name].dtype == field.dtype


@FUZZ
@given(data=st.binary(max_size=600), compressed=st.booleans())
def test_any_bytes(file, data, compressed):
    file.write_bytes(gzip.compress(data, 1) if compressed else data)
    found, failed = read(file)
    assert not found
    assert failed or (compressed and not data)  # an empty gzip stream holds no record


def test_the_undamaged_file_is_read(file, content, records):
    file.write_bytes(content)
    found, failed = read(file)
    assert not failed
    assert [key(r) for r in found] == [key(r) for r in records]
