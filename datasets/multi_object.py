"""Reads and writes DeepMind's multi-object files (deepmind/multi_object_datasets), no TensorFlow.

The files are TFRecords of `tf.train.Example` that store every uint8 array as a list of one-byte
strings, 1.07 million of them in a CLEVR record. Such a list is the bytes `0a 01 value` over and
over, so it is not parsed: every third byte is a value, and the others must be what they are.
Where in a record the arrays lie is found once; records that are framed alike share the answer.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from datasets import schemas, wire
from datasets.errors import DatasetError
from datasets.schemas import Field, Schema
from datasets.tfrecord import RecordFile, write_records
from datasets.wire import Span

Record = dict[str, np.ndarray]

_STRING = (0x0A, 0x01)  # what precedes the value of a one-byte string: field 1, length 1
_CACHE = 1 << 19  # bytes that surely fit into a processor's second cache
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
    for data in records:
        try:
            yield decoder(data)
        except _BadRecord as error:
            raise DatasetError(
                f"{records.where()}: {error} (reading it as {schema.name})"
            ) from error


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
    """Makes arrays of serialised Examples; keeps layouts and scratch space between records."""

    def __init__(self, schema: Schema):
        self._schema = schema
        self._layouts: list[_Layout] = []
        fields = schema.fields.values()
        # Room for two blocks of masks; every array fits.
        self._scratch = bytearray(6 * max(field.size for field in fields))
        sizes = {field.size for field in fields if field.dtype == "uint8"}
        self._framing = {n: _strings(0xFF, 0xFF, 0x00, count=n) for n in sizes}
        # Bytes, because `bytearray.startswith` is faster than comparing arrays.
        self._expected = {n: _strings(*_STRING, 0x00, count=n).tobytes() for n in sizes}
        # The numbers of the entities, laid out as the strings of their masks.
        entities = np.arange(schema.num_entities, dtype=np.uint8)
        entities = entities.reshape(-1, 1, 1, 1) if schema.entities_first else entities[:, None]
        numbers = np.broadcast_to(entities, schema.mask.shape).reshape(-1, 1).repeat(3, axis=1)
        self._entities = [numbers.ravel()]
        if schema.entities_first and numbers.size > _CACHE:
            # One mask after the other, so that what is written stays in the processor's cache.
            self._entities = list(entities.ravel())
        self._block = numbers.size // len(self._entities)
        # A mask's values 0 and 255 become 1 and 0 when 255 is subtracted.
        self._on = _strings(*_STRING, 0xFF, count=self._block // 3)
        self._off = _strings(0xFF, 0xFF, 0xFE, count=self._block // 3)
        self._zeros = bytes(self._block)

    def __call__(self, data: bytes) -> Record:
        spans = self._layout(data).spans
        schema = self._schema
        record = {
            "image": self._values("image", data, spans["image"]).reshape(schema.image),
            "segmentation": self._labels(data, spans["mask"]),
        }
        for name, field in schema.attributes:
            if field.dtype == "uint8":
                values = self._values(name, data, spans[name])
            else:
                values = np.frombuffer(data, "<f4", field.size, spans[name][0])
            record[name] = values.reshape(field.shape)
        visibility = record.get("visibility")
        if visibility is not None and not _BINARY.issuperset(visibility.tolist()):
            raise _BadRecord("visibility: expected the values 0 and 1 only")
        return record

    def _values(self, name: str, data: bytes, span: Span) -> np.ndarray:
        """The values of one-byte strings."""
        strings = np.frombuffer(data, np.uint8, span[1] - span[0], span[0])
        size = strings.size // 3
        scratch = np.frombuffer(self._scratch, np.uint8, strings.size)
        np.bitwise_and(strings, self._framing[size], out=scratch)
        if not self._scratch.startswith(self._expected[size]):
            raise _BadRecord(f"{name}: expected one-byte strings, found longer or empty ones")
        return strings[2::3].copy()

    def _labels(self, data: bytes, span: Span) -> np.ndarray:
        """One label map [H, W] of masks {0, 255}; where masks overlap the later entity wins."""
        schema, start = self._schema, span[0]
        height, width, _ = schema.image
        wrong, scratch = np.frombuffer(self._scratch, np.uint8, 2 * self._block).reshape(2, -1)
        wrong.fill(0)
        labels = np.zeros(height * width * (3 if schema.entities_first else 1), np.uint8)
        for entities in self._entities:
            strings = np.frombuffer(data, np.uint8, self._block, start)
            start += self._block
            np.bitwise_or(wrong, np.subtract(strings, self._on, out=scratch), out=wrong)
            np.bitwise_and(strings, entities, out=scratch)
            if schema.entities_first:
                shown = scratch.reshape(-1, labels.size)
            else:
                shown = scratch[2::3].reshape(labels.size, -1).T.copy()
            shown = shown.max(axis=0) if len(shown) > 1 else shown[0]
            np.maximum(labels, shown, out=labels)
        np.bitwise_and(wrong, self._off, out=wrong)
        if not self._scratch.startswith(self._zeros):
            self._values("mask", data, span)  # says so if the strings are at fault
            raise _BadRecord("mask: expected the values 0 and 255 only")
        if schema.entities_first:
            labels = labels[2::3].copy()
        return labels.reshape(height, width)

    def _layout(self, data: bytes) -> _Layout:
        for layout in self._layouts:
            if layout.fits(data):
                return layout
        layout = _find_layout(data, self._schema)
        self._layouts = [layout, *self._layouts[: _MAX_LAYOUTS - 1]]
        return layout


def _strings(*triple: int, count: int) -> np.ndarray:
    return np.tile(np.array(triple, np.uint8), count)


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
