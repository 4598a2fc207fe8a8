"""Tensors that PyTorch saved, read without PyTorch and without running what a pickle asks for.

`torch.save` of one tensor is a zip archive, or in files from before version 1.6 a row of pickles
with the numbers behind them. Both pickle a call that makes a tensor of a storage; of that call the
arguments are read, and any other class or function is refused.
"""

import io
import pickle
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from datasets.errors import DamagedFileError

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
_TYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BoolStorage": "?",
    "ByteStorage": "u1", "CharStorage": "i1", "ShortStorage": "<i2", "IntStorage": "<i4",
    "LongStorage": "<i8",
}  # fmt: skip


class _Storage(NamedTuple):
    dtype: str
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _Tensor(*arguments[:4])
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise pickle.UnpicklingError(f"it pickles {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size, *_ = pid
        return _Storage(dtype, key, size)


def read(content: bytes, name: str) -> np.ndarray:
    """The tensor of a file of `torch.save`.

    Args:
      content: of the file.
      name: of the file, for errors.

    Raises:
      DamagedFileError: it is no such file, is cut short, or holds anything but one tensor.
    """
    try:
        zipped = zipfile.is_zipfile(io.BytesIO(content))
        tensor, numbers = (_zipped if zipped else _in_a_row)(io.BytesIO(content))
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"it holds a {type(tensor).__name__}, no tensor")
        flat = np.frombuffer(numbers, tensor.storage.dtype, tensor.storage.size)
        strides = [stride * flat.itemsize for stride in tensor.strides]
        last = tensor.offset + sum(
            stride * (n - 1) for stride, n in zip(tensor.strides, tensor.shape, strict=True)
        )
        if min(tensor.shape, default=1) < 1 or min(strides, default=0) < 0 or last >= len(flat):
            raise ValueError("its numbers are fewer than its shape needs")
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)
        return view.copy()
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, ValueError),
        *(KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError),
        *(RuntimeError, zlib.error),
    ) as error:
        raise DamagedFileError(f"{name}: is no tensor that PyTorch saved ({error})") from error


def _zipped(file: io.BytesIO) -> tuple[Any, bytes]:
    with zipfile.ZipFile(file) as archive:
        pickled = next(n for n in [*archive.namelist(), ""] if n.endswith("data.pkl") or not n)
        tensor = _Unpickler(io.BytesIO(archive.read(pickled))).load()
        if not isinstance(tensor, _Tensor):
            return tensor, b""
        return tensor, archive.read(f"{pickled.removesuffix('data.pkl')}data/{tensor.storage.key}")


def _in_a_row(file: io.BytesIO) -> tuple[Any, bytes]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("its first number is another")
    for _ in ("version", "system"):
        _Unpickler(file).load()
    tensor, keys = _Unpickler(file).load(), _Unpickler(file).load()
    if not isinstance(tensor, _Tensor) or keys != [tensor.storage.key]:
        return tensor, b""
    (size,) = struct.unpack("<q", file.read(8))
    if size != tensor.storage.size:
        raise ValueError(f"{size} numbers follow, expected {tensor.storage.size}")
    return tensor, file.read()
