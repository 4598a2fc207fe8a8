"""The protobuf wire format of `tf.train.Example`, as far as published records use it.

    Example  { 1: Features { 1: entry, 1: entry, ... } }
    entry    { 1: key, 2: Feature { 1: BytesList | 2: FloatList | 3: Int64List } }

Every message is length-delimited: a tag byte, the length as a varint, the content.
"""

from collections.abc import Mapping

import numpy as np

BYTES_LIST, FLOAT_LIST, INT64_LIST = 0x0A, 0x12, 0x1A  # tags in a Feature
KINDS = {BYTES_LIST: "bytes_list", FLOAT_LIST: "float_list", INT64_LIST: "int64_list"}
_FIRST, _SECOND = 0x0A, 0x12  # tags of length-delimited fields 1 and 2

Span = tuple[int, int]  # first byte and end


class WireError(ValueError):
    """The bytes are no Example."""


def find_features(data: bytes) -> list[tuple[str, int, Span]]:
    """Name, kind and span of the list of every feature of a serialised Example.

    Raises:
      WireError: the bytes are not framed as the module says.
    """
    features = []
    at, end = _message(data, 0, len(data), _FIRST)
    _expect(end == len(data))
    while at < end:
        entry, entry_end = _message(data, at, end, _FIRST)
        key, key_end = _message(data, entry, entry_end, _FIRST)
        value, value_end = _message(data, key_end, entry_end, _SECOND)
        _expect(value_end == entry_end and value < value_end)
        kind = data[value]
        _expect(kind in KINDS)
        span = _message(data, value, value_end, kind)
        _expect(span[1] == value_end)
        features.append((data[key:key_end].decode("utf-8", "replace"), kind, span))
        at = entry_end
    return features


def strings(data: bytes, span: Span) -> list[bytes]:
    """The values of a BytesList.

    Raises:
      WireError: it is not one.
    """
    at, end = span
    values = []
    while at < end:
        start, at = _message(data, at, end, _FIRST)
        values.append(data[start:at])
    return values


def floats(data: bytes, span: Span) -> np.ndarray:
    """The values of a FloatList of packed floats, float32.

    Raises:
      WireError: it is not one.
    """
    packed = b"".join(strings(data, span))
    _expect(len(packed) % 4 == 0)
    return np.frombuffer(packed, "<f4")


def integers(data: bytes, span: Span) -> np.ndarray:
    """The values of an Int64List of packed varints, int64.

    Raises:
      WireError: it is not one.
    """
    values, value, shift = [], 0, 0
    for byte in b"".join(strings(data, span)):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value)
            value, shift = 0, 0
    _expect(shift == 0)
    return np.array(values, np.uint64).view(np.int64)


def make_example(features: Mapping[str, tuple[int, bytes]]) -> bytes:
    """The Example with features `{name: (kind, content of the list)}`."""
    entries = b"".join(
        _framed(
            _FIRST,
            _framed(_FIRST, name.encode()) + _framed(_SECOND, _framed(kind, content)),
        )
        for name, (kind, content) in features.items()
    )
    return _framed(_FIRST, entries)


def framing(sizes: Mapping[str, int]) -> dict[str, bytes]:
    """What precedes the bytes of each feature, `sizes` of them, in an Example that has nothing but
    these features of one byte string each, in this order."""
    headers = {}
    for name, size in sizes.items():
        example = make_example({name: (BYTES_LIST, _framed(_FIRST, bytes(size)))})
        entry = example[_message(example, 0, len(example), _FIRST)[0] :]
        headers[name] = entry[: len(entry) - size]
    total = sum(len(header) + sizes[name] for name, header in headers.items())
    first = next(iter(headers))
    return {**headers, first: bytes([_FIRST]) + _varint(total) + headers[first]}


def packed_floats_header(size: int) -> bytes:
    """What precedes `size` packed floats in a FloatList."""
    return bytes([_FIRST]) + _varint(4 * size)


def _message(data: bytes, at: int, end: int, tag: int) -> Span:
    """The content of the message that starts at `at` with `tag` and stays before `end`."""
    _expect(at < end and data[at] == tag)
    length, shift = 0, 0
    while True:
        at += 1
        _expect(at < end and shift < 35)
        length |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            break
    _expect(at + 1 + length <= end)
    return at + 1, at + 1 + length


def _expect(condition: bool) -> None:
    if not condition:
        raise WireError


def _framed(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
