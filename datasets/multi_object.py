"""Reads and writes DeepMind's multi-object files (deepmind/multi_object_datasets), no TensorFlow.

The files are TFRecords of `tf.train.Example` that store every uint8 array as a list of one-byte
strings, 1.07 million of them in a CLEVR record. Such a list is the bytes `0a 01 value` over and
over, so instead of parsing it we declare it as one `bytes` field and take every third byte, after
checking that the others are what they must be.
"""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from datasets import schemas
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.tfrecord import RecordFile, write_records

_ONE_BYTE_STRING = b"\x0a\x01"  # field 1, length 1


def read(path: str | os.PathLike[str], dataset: str) -> Iterator[dict[str, np.ndarray]]:
    """Yields the records of a published file, in file order.

    Args:
      path: the TFRecord file, gzip or plain (sniffed).
      dataset: which one it is, e.g. `tetrominoes` or `multi_dsprites/colored_on_grayscale`.

    Yields:
      `image` uint8 [H, W, C], `segmentation` uint8 [H, W] (the entity a pixel shows; 0 is the
      background), and the attributes as stored, first axis the entities.

    Raises:
      DatasetError: the file is not what it should be; one line with file and record number.
    """
    return decode(RecordFile(path), schemas.find(dataset))


def write(
    path: str | os.PathLike[str],
    dataset: str,
    records: Iterable[Mapping[str, Any]],
    *,
    compressed: bool = True,
) -> int:
    """Writes records as `read` yields them in the published format; returns how many.

    A record may hold `mask`, uint8 {0, 255} in the file's own layout, in place of `segmentation`.

    Raises:
      DatasetError: a record lacks a field or has one of another shape.
    """
    schema = schemas.find(dataset)
    encoded = (encode(record, schema, number) for number, record in enumerate(records))
    return write_records(path, encoded, compressed=compressed)


def decode(records: RecordFile, schema: Schema) -> Iterator[dict[str, np.ndarray]]:
    """As `read`, for a file that is already open."""
    for data in records:
        try:
            yield _decode_example(data, schema)
        except _BadRecord as error:
            raise records.error(f"{error} (reading it as {schema.name})") from error


class _BadRecord(Exception):
    """Why a record is not one of the schema's; `decode` adds file and number."""


def _decode_example(data: bytes, schema: Schema) -> dict[str, np.ndarray]:
    try:
        entries = _Example.FromString(data).features.feature
    except DecodeError as error:
        raise _BadRecord("the data is not a tf.train.Example") from error
    features = {entry.key: entry.value for entry in entries}
    fields = schema.fields
    if features.keys() != fields.keys() or len(entries) != len(fields):
        raise _BadRecord(
            f"expected the fields {sorted(fields)}, found {sorted(e.key for e in entries)}"
        )
    arrays = {name: _decode_field(name, features[name], fields[name]) for name in fields}
    record = {"image": arrays.pop("image"), "segmentation": _label_map(arrays.pop("mask"), schema)}
    _check_attributes(arrays)
    return record | arrays


def _decode_field(name: str, feature: Any, field: Field) -> np.ndarray:
    expected = "bytes_list" if field.dtype == "uint8" else "float_list"
    kind = feature.WhichOneof("kind")
    if kind != expected:
        raise _BadRecord(f"{name}: expected a {expected}, found {kind or 'nothing'}")
    payload = getattr(feature, kind)
    if field.dtype == "uint8":
        return _one_byte_strings(name, payload, field).reshape(field.shape)
    prefix = _float_prefix(field.size)
    if not payload.startswith(prefix) or len(payload) != len(prefix) + 4 * field.size:
        raise _BadRecord(
            f"{name}: expected {_count(field)} packed floats, found {len(payload)} bytes of others"
        )
    return np.frombuffer(payload, "<f4", offset=len(prefix)).reshape(field.shape)


def _one_byte_strings(name: str, payload: bytes, field: Field) -> np.ndarray:
    if len(payload) != 3 * field.size:
        raise _BadRecord(
            f"{name}: expected {_count(field)} one-byte strings = {3 * field.size} bytes,"
            f" found {len(payload)}"
        )
    # Eight bytes at a time: a mask drops the values, what is left must be the pattern.
    mask, pattern = _pattern(field.size)
    words = np.frombuffer(payload, np.uint64, count=len(mask))
    tail = payload[8 * len(mask) :]
    if ((words & mask) != pattern).any() or not _is_pattern(tail, 8 * len(mask)):
        raise _BadRecord(f"{name}: expected one-byte strings, found longer or empty ones")
    return np.frombuffer(payload, np.uint8)[2::3].copy()


@functools.lru_cache(maxsize=32)
def _pattern(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and expected value of the framing of `size` one-byte strings, in whole uint64 words."""
    whole = 3 * size // 8 * 8
    mask = np.resize(np.array([0xFF, 0xFF, 0], np.uint8), whole)
    pattern = np.resize(np.array([*_ONE_BYTE_STRING, 0], np.uint8), whole)
    return mask.view(np.uint64), pattern.view(np.uint64)


def _is_pattern(tail: bytes, start: int) -> bool:
    """Whether the bytes from position `start` of a payload on frame one-byte strings."""
    return all(
        position % 3 == 2 or byte == _ONE_BYTE_STRING[position % 3]
        for position, byte in enumerate(tail, start)
    )


@functools.lru_cache(maxsize=32)
def _float_prefix(size: int) -> bytes:
    """What precedes `size` packed floats in a FloatList."""
    return b"\x0a" + _varint(4 * size)


def _count(field: Field) -> str:
    return f"{'x'.join(map(str, field.shape))} = {field.size}"


def _label_map(mask: np.ndarray, schema: Schema) -> np.ndarray:
    """One label map [H, W] of masks {0, 255}; where masks overlap the later entity wins."""
    if (mask + np.uint8(1)).max() > 1:  # 255 + 1 wraps to 0
        raise _BadRecord("mask: expected the values 0 and 255 only")
    mask = mask[..., 0] if schema.entities_first else np.moveaxis(mask[..., 0], -1, 0)
    labels = np.zeros(schema.image[:2], np.uint8)
    for entity in range(1, schema.num_entities):
        np.maximum(labels, mask[entity] & np.uint8(entity), out=labels)
    return labels


def _check_attributes(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            raise _BadRecord(f"{name}: expected finite numbers")
    visibility = arrays.get("visibility")
    if visibility is not None and not ((visibility == 0) | (visibility == 1)).all():
        raise _BadRecord("visibility: expected the values 0 and 1 only")


def encode(record: Mapping[str, Any], schema: Schema, number: int = 0) -> bytes:
    """The serialised `tf.train.Example` of a record as `read` yields it."""
    if "mask" not in record and "segmentation" in record:
        record = {**record, "mask": _masks(np.asarray(record["segmentation"]), schema, number)}
    example = _Example()
    for name, field in schema.fields.items():
        if name not in record:
            raise DatasetError(f"record {number}: {name} is missing, {schema.name} has it")
        array = np.asarray(record[name])
        if array.shape != field.shape:
            raise DatasetError(
                f"record {number}: {name} has shape {array.shape}, expected {field.shape}"
            )
        entry = example.features.feature.add(key=name)
        if field.dtype == "uint8":
            entry.value.bytes_list = _as_one_byte_strings(array)
        else:
            payload = array.astype("<f4").tobytes()
            entry.value.float_list = b"\x0a" + _varint(len(payload)) + payload
    return example.SerializeToString()


def _masks(labels: np.ndarray, schema: Schema, number: int) -> np.ndarray:
    if labels.shape != schema.image[:2] or labels.max() >= schema.num_entities:
        raise DatasetError(
            f"record {number}: segmentation has shape {labels.shape} and the largest label"
            f" {labels.max()}, expected {schema.image[:2]} and less than {schema.num_entities}"
        )
    entities = np.arange(schema.num_entities)
    masks = labels[None] == entities[:, None, None]
    if not schema.entities_first:
        masks = np.moveaxis(masks, 0, 2)
    return masks[..., None] * np.uint8(255)


def _as_one_byte_strings(array: np.ndarray) -> bytes:
    triples = np.empty((array.size, 3), np.uint8)
    triples[:, :2] = tuple(_ONE_BYTE_STRING)
    triples[:, 2] = array.ravel()
    return triples.tobytes()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _example_class() -> type:
    """`tf.train.Example` with each list declared as the bytes that encode it."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="multi_object_raw_example.proto", package="multi_object", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, str, bool]) -> Any:
        descriptor = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            field = descriptor.field.add(name=field_name, number=number)
            field.label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
            if kind.isupper():
                field.type, field.type_name = proto.TYPE_MESSAGE, f".multi_object.{kind.title()}"
            else:
                field.type = proto.TYPE_STRING if kind == "string" else proto.TYPE_BYTES
        return descriptor

    lists = ("bytes_list", "float_list", "int64_list")
    feature = message("Feature", *((n, i, "bytes", False) for i, n in enumerate(lists, 1)))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    message("Entry", ("key", 1, "string", False), ("value", 2, "FEATURE", False))
    message("Features", ("feature", 1, "ENTRY", True))
    message("Example", ("features", 1, "FEATURES", False))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("multi_object.Example"))


_Example = _example_class()
