"""Reads and writes DeepMind's multi-object files (deepmind/multi_object_datasets), no TensorFlow.

The files are TFRecords of `tf.train.Example` that store every uint8 array as a list of one-byte
strings, 1.07 million of them in a CLEVR record. Such a list is the bytes `0a 01 value` over and
over, so it is not parsed: every third byte is a value, and the others must be what they are.
Where in a record the arrays lie is found once; records that are framed alike share the answer.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datasets import schemas, wire
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.tfrecord import RecordFile, write_records
from datasets.wire import Span

Record = dict[str, np.ndarray]
Column = tuple[bytes, Span]

_STRING = (0x0A, 0x01)  # what precedes the value of a one-byte string: field 1, length 1
_CACHE = 1 << 18  # bytes that surely fit into a processor's second cache
_BINARY = frozenset({0.0, 1.0})
_MAX_LAYOUTS = 64  # remembered; a file has one or, if its writer shuffled the fields, a few


def read(path: str | os.PathLike[str], dataset: str) -> Iterator[Record]:
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


def decode(records: RecordFile, schema: Schema) -> Iterator[Record]:
    """As `read`, for a file that is already open."""
    decoder = _Decoder(schema)
    number = 0
    for batch in records.batches(decoder.batch):
        try:
            yield from decoder(batch)
            number += len(batch)
        except _BadRecord:  # one by one: those before the bad one are good, its error counts
            for data in batch:
                try:
                    yield from decoder([data])
                except _BadRecord as error:
                    raise DatasetError(
                        f"{records.where(number)}: {error} (reading it as {schema.name})"
                    ) from error
                number += 1


class _BadRecord(Exception):
    """Why a record is not one of the schema's; `decode` adds file and number."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the arrays of a serialised Example lie.

    Attributes:
      spans: of every array: its one-byte strings, or its packed floats.
      frame: all that lies around them, as (position, bytes).
      length: of the record.
    """

    spans: Mapping[str, Span]
    frame: tuple[tuple[int, bytes], ...]
    length: int

    def fits(self, data: bytes) -> bool:
        return len(data) == self.length and all(data.startswith(b, at) for at, b in self.frame)


class _Decoder:
    """Makes arrays of serialised Examples, `batch` at once; keeps layouts and scratch space."""

    def __init__(self, schema: Schema):
        self._schema = schema
        self._layouts: list[_Layout] = []
        fields = [field for field in schema.fields.values() if field.dtype == "uint8"]
        # Small records are decoded together, as many as fit into a processor's second cache.
        self.batch = max(1, _CACHE // sum(3 * field.size for field in fields))
        size = self.batch * max(field.size for field in fields)
        self._scratch = bytearray(3 * size)
        self._framing = _strings(0xFF, 0xFF, 0x00, count=size)
        # `bytearray.startswith` is faster than comparing arrays.
        self._expected = memoryview(_strings(*_STRING, 0x00, count=size).tobytes())
        # A mask's values 0 and 255 become 1 and 0 when 255 is subtracted.
        pixels = schema.image[0] * schema.image[1]
        self._on = _strings(*_STRING, 0xFF, count=pixels)
        self._off = _strings(0xFF, 0xFF, 0xFE, count=pixels)
        self._empty = bytes(self._expected[: 3 * pixels])

    def __call__(self, batch: Sequence[bytes]) -> Iterator[Record]:
        """The records of at most `batch` Examples; all are checked before the first is given."""
        schema, count = self._schema, len(batch)
        spans = [self._layout(data).spans for data in batch]
        image, mask = _column(batch, spans, "image"), _column(batch, spans, "mask")
        arrays = {
            "image": self._values("image", *image).reshape(count, *schema.image),
            "segmentation": self._labels(*mask).reshape(count, *schema.image[:2]),
        }
        for name, field in schema.attributes:
            column = _column(batch, spans, name)
            values = self._values(name, *column) if field.dtype == "uint8" else _floats(*column)
            arrays[name] = values.reshape(count, *field.shape)
        visibility = arrays.get("visibility")
        if visibility is not None and not _BINARY.issuperset(visibility.ravel().tolist()):
            raise _BadRecord("visibility: expected the values 0 and 1 only")
        return (dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True))

    def _values(self, name: str, data: bytes, span: Span) -> np.ndarray:
        """The values of one-byte strings."""
        strings = np.frombuffer(data, np.uint8, span[1] - span[0], span[0])
        scratch = np.frombuffer(self._scratch, np.uint8, strings.size)
        np.bitwise_and(strings, self._framing[: strings.size], out=scratch)
        if not self._scratch.startswith(self._expected[: strings.size]):
            raise _BadRecord(f"{name}: expected one-byte strings, found longer or empty ones")
        return strings[2::3].copy()

    def _labels(self, data: bytes, span: Span) -> np.ndarray:
        """Label maps of masks {0, 255}; where masks overlap the later entity wins."""
        schema = self._schema
        pixels = schema.image[0] * schema.image[1]
        if schema.entities_first:
            labels, good = self._merge(data, span, 3 * pixels)
        else:
            values = self._values("mask", data, span).reshape(-1, pixels, schema.num_entities)
            good = (values + 1 < 2).all()  # 255 + 1 is 0 in bytes
            labels = functools.reduce(
                np.maximum, (values[..., entity] & entity for entity in range(schema.num_entities))
            )
        if not good:
            self._values("mask", data, span)  # says so if the strings are at fault
            raise _BadRecord("mask: expected the values 0 and 255 only")
        return labels

    def _merge(self, data: bytes, span: Span, size: int) -> tuple[np.ndarray, bool]:
        """Labels of masks, `size` bytes each, one after the other; and whether all are right."""
        (start, stop), num_entities = span, self._schema.num_entities
        masks = np.frombuffer(data, np.uint8, stop - start, start).reshape(-1, num_entities, size)
        labels, wrong = np.zeros((2, len(masks), size), np.uint8)
        for entity in range(num_entities):
            places = range(start + entity * size, stop, num_entities * size)
            if all(data.startswith(self._empty, place) for place in places):
                continue  # the entity is in none of the records
            strings = masks[:, entity]
            wrong |= strings - self._on
            np.maximum(labels, strings & entity, out=labels)
        return labels[:, 2::3], not (wrong & self._off).any()

    def _layout(self, data: bytes) -> _Layout:
        for layout in self._layouts:
            if layout.fits(data):
                return layout
        layout = _find_layout(data, self._schema)
        self._layouts = [layout, *self._layouts[: _MAX_LAYOUTS - 1]]
        return layout


def _column(batch: Sequence[bytes], spans: Sequence[Mapping[str, Span]], name: str) -> Column:
    """Bytes in which an array of every record lies, one after the other, and where."""
    if len(batch) == 1:
        return batch[0], spans[0][name]
    parts = [data[slice(*span[name])] for data, span in zip(batch, spans, strict=True)]
    data = b"".join(parts)
    return data, (0, len(data))


def _floats(data: bytes, span: Span) -> np.ndarray:
    return np.frombuffer(data, "<f4", (span[1] - span[0]) // 4, span[0])


def _strings(*triple: int, count: int) -> np.ndarray:
    return np.frombuffer(bytearray(bytes(triple) * count), np.uint8)


def _find_layout(data: bytes, schema: Schema) -> _Layout:
    try:
        features = wire.find_features(data)
    except wire.WireError as error:
        raise _BadRecord("the data is not a tf.train.Example of lists") from error
    fields, names = schema.fields, sorted(name for name, _, _ in features)
    if names != sorted(fields):
        raise _BadRecord(f"expected the fields {sorted(fields)}, found {names}")
    spans = {
        name: _array_span(data, name, kind, span, fields[name]) for name, kind, span in features
    }
    edges = [0, *(edge for span in spans.values() for edge in span), len(data)]
    frame = tuple((edges[i], data[edges[i] : edges[i + 1]]) for i in range(0, len(edges), 2))
    return _Layout(spans, frame, len(data))


def _array_span(data: bytes, name: str, kind: int, span: Span, field: Field) -> Span:
    """Where the strings or floats of a feature lie; checks kind and number."""
    expected = wire.BYTES_LIST if field.dtype == "uint8" else wire.FLOAT_LIST
    if kind != expected:
        raise _BadRecord(f"{name}: expected a {wire.KINDS[expected]}, found {wire.KINDS[kind]}")
    (start, stop), count = span, f"{'x'.join(map(str, field.shape))} = {field.size}"
    if field.dtype == "uint8":
        if stop - start != 3 * field.size:
            raise _BadRecord(
                f"{name}: expected {count} one-byte strings in {3 * field.size} bytes,"
                f" found {stop - start} bytes"
            )
        return start, stop
    header = wire.packed_floats_header(field.size)
    if not data.startswith(header, start) or stop - start != len(header) + 4 * field.size:
        raise _BadRecord(
            f"{name}: expected {count} packed floats in {len(header) + 4 * field.size} bytes,"
            f" found {stop - start} bytes"
        )
    return start + len(header), stop


def encode(record: Mapping[str, Any], schema: Schema, number: int = 0) -> bytes:
    """The serialised `tf.train.Example` of a record as `read` yields it."""
    if "mask" not in record and "segmentation" in record:
        record = {**record, "mask": _masks(np.asarray(record["segmentation"]), schema, number)}
    features = {}
    for name, field in schema.fields.items():
        if name not in record:
            raise DatasetError(f"record {number}: {name} is missing, {schema.name} has it")
        array = np.asarray(record[name])
        if array.shape != field.shape:
            raise DatasetError(
                f"record {number}: {name} has shape {array.shape}, expected {field.shape}"
            )
        if field.dtype == "uint8":
            strings = _strings(*_STRING, 0, count=field.size)
            strings[2::3] = array.ravel()
            features[name] = wire.BYTES_LIST, strings.tobytes()
        else:
            floats = wire.packed_floats_header(field.size) + array.astype("<f4").tobytes()
            features[name] = wire.FLOAT_LIST, floats
    return wire.make_example(features)


def _masks(labels: np.ndarray, schema: Schema, number: int) -> np.ndarray:
    if labels.shape != schema.image[:2] or labels.max() >= schema.num_entities:
        raise DatasetError(
            f"record {number}: segmentation has shape {labels.shape} and the largest label"
            f" {labels.max()}, expected {schema.image[:2]} and less than {schema.num_entities}"
        )
    masks = labels[None] == np.arange(schema.num_entities)[:, None, None]
    if not schema.entities_first:
        masks = np.moveaxis(masks, 0, 2)
    return masks[..., None] * np.uint8(255)
