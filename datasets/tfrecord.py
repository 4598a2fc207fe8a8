"""TFRecord files without TensorFlow: gzip or plain, every checksum verified.

A record is `length: uint64 LE | crc(length) | data | crc(data)`, with the masked CRC-32C of the
TFRecord format.
"""

import collections
import gzip
import os
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import google_crc32c
from zlib_ng import gzip_ng, zlib_ng

from datasets.errors import DamagedFileError, DatasetError

_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_RECORD = 1 << 28  # bytes; CLEVR with masks, the largest we know, has 3.3 MB
_BUFFER = 1 << 20
_GZIP_LEVEL = 2  # of 1..9; files half as large as with 1
_AHEAD = 3  # batches

T = TypeVar("T")


def masked_crc(data: bytes) -> int:
    """The CRC-32C of `data`, rotated and offset as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class RecordFile:
    """The records of one file, in order; iterate over it once.

    Raises `DatasetError` (one line: file, record number, what was expected) on the first byte
    that is not as written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            self._raw: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise DatasetError(f"{self.path}: cannot be opened ({error.strerror})") from error
        self.size = os.fstat(self._raw.fileno()).st_size
        self._number = 0

    def fraction(self) -> float:
        """How much of the file has been read, in [0, 1]."""
        try:
            return self._raw.tell() / max(self.size, 1)
        except ValueError:  # closed, perhaps just now by the thread that reads
            return 1.0

    def __iter__(self) -> Iterator[bytes]:
        with self._raw:
            stream = self._open()
            while (record := self._next(stream)) is not None:
                yield record
                self._number += 1

    def batches(self, size: int) -> Iterator[list[bytes]]:
        """The records, `size` at once; the last are fewer, and so are those before damage.

        If there is a second core a thread reads ahead, but only where a record is a batch: small
        ones take less time than two threads lose to Python's lock.
        """
        batches = self._batches(size)
        return _ahead(batches) if size == 1 and _cores() > 1 else batches

    def _batches(self, size: int) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        try:
            for record in self:
                batch.append(record)
                if len(batch) == size:
                    yield batch
                    batch = []
        except DatasetError:
            if batch:
                yield batch
            raise
        if batch:
            yield batch

    def where(self, number: int) -> str:
        """The file and a record's number, for errors."""
        return f"{self.path}: record {number}"

    def _damaged(self, what: str) -> DamagedFileError:
        return DamagedFileError(f"{self.where(self._number)}: {what}")

    def _open(self) -> BinaryIO:
        head = self._raw.read(512)
        self._raw.seek(0)
        if not head:
            raise DamagedFileError(f"{self.path}: the file is empty, expected TFRecords")
        if head.lstrip()[:1] == b"<":
            raise DamagedFileError(
                f"{self.path}: this is an HTML or XML page, not TFRecords;"
                " the download went wrong, fetch the file again"
            )
        if head.startswith(_GZIP_MAGIC):
            return gzip_ng.GzipNGFile(fileobj=self._raw, mode="rb")
        return self._raw

    def _read(self, stream: BinaryIO, size: int) -> bytes:
        try:
            return stream.read(size)
        except EOFError as error:
            raise self._damaged(
                "the gzip stream does not end where the file ends: truncated or damaged"
            ) from error
        except (gzip.BadGzipFile, zlib_ng.error) as error:
            raise self._damaged(f"the gzip stream is damaged ({error})") from error
        except OSError as error:
            raise DatasetError(f"{self.where(self._number)}: cannot be read ({error})") from error

    def _next(self, stream: BinaryIO) -> bytes | None:
        header = self._read(stream, 12)
        if not header:
            return None
        if len(header) < 12:
            raise self._damaged(
                f"expected a 12-byte header, the file ends after {len(header)} bytes"
            )
        length, crc = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != crc:
            raise self._damaged("the header's checksum is wrong: damaged, or not a TFRecord file")
        if length > _LARGEST_RECORD:
            raise self._damaged(f"claims {length} bytes, expected at most {_LARGEST_RECORD}")
        data = self._read(stream, length)
        trailer = self._read(stream, 4)
        if len(trailer) < 4:
            raise self._damaged(
                f"expected {length + 4} bytes, the file ends after {len(data) + len(trailer)}:"
                " it is truncated"
            )
        if masked_crc(data) != struct.unpack("<I", trailer)[0]:
            raise self._damaged("the data's checksum is wrong: the file is damaged")
        return data


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields `items`, which a thread takes a few ahead; their error comes after those before it."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        taken = collections.deque(pool.submit(next, items, end) for _ in range(_AHEAD))
        while (item := taken.popleft().result()) is not end:
            taken.append(pool.submit(next, items, end))
            yield item


def write_records(
    path: str | os.PathLike[str], records: Iterable[bytes], *, compressed: bool = True
) -> int:
    """Writes TFRecords, gzip-compressed unless told otherwise; returns how many."""
    path = Path(path)
    count = 0
    with path.open("wb") as raw:
        stream = (
            gzip_ng.GzipNGFile(fileobj=raw, mode="wb", compresslevel=_GZIP_LEVEL)
            if compressed
            else raw
        )
        for data in records:
            length = struct.pack("<Q", len(data))
            stream.write(length + struct.pack("<I", masked_crc(length)))
            stream.write(data + struct.pack("<I", masked_crc(data)))
            count += 1
        if compressed:
            stream.close()
    return count


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
