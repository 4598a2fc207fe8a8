"""Files of official weights: `.pth` (or Lightning's `.ckpt`), `.safetensors` and `.npz`."""

import argparse
import functools
import importlib
import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.runtime import storage

KINDS = (".pth", ".safetensors", ".npz", ".ckpt")
# What training scripts wrap a state dict in.
WRAPPERS = ("model_state_dict", "state_dict", "model")
# What modules that hold a model put before its names: Lightning's, `DataParallel`'s, `compile`'s.
PREFIXES = ("model.", "module.", "_orig_mod.")
SAFETENSORS_TYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "U16": np.uint16,
    "I32": np.int32, "U32": np.uint32, "I64": np.int64, "U64": np.uint64,
    "F16": np.float16, "F32": np.float32, "F64": np.float64,
    "BF16": jnp.bfloat16, "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2,
}  # fmt: skip
# Names inside the state dict of an `ema_pytorch` module.
AVERAGED, ONLINE = "ema_model.", "online_model."


def read(
    path: Path, setting: str = "--weights"
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights of a file and their moving average; the same twice where it has but one.

    Args:
        setting: what named the file, for messages.

    Raises:
        UserError: if the file is missing, of another kind, damaged, or needs PyTorch and there is
            none.
    """
    if path.suffix not in KINDS:
        raise UserError(f"{setting}={path}: is not {', '.join(KINDS)}.")
    if not path.is_file():
        raise UserError(f"{setting}={path}: no such file.")
    reader = _READERS.get(path.suffix) or functools.partial(_read_torch, _torch(path, setting))
    try:
        arrays = _bare(reader(path))
    except (
        *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError),
        *(RuntimeError, OverflowError, MemoryError, pickle.UnpicklingError, zipfile.BadZipFile),
    ) as error:
        reason = " ".join("".join(c for c in str(error) if c.isprintable() or c == " ").split())
        raise UserError(f"{setting}={path}: cannot be read ({reason[:200]}).") from error
    averaged = _below(arrays, AVERAGED)
    if not averaged:
        return arrays, arrays
    return _below(arrays, ONLINE), averaged


def write(
    path: Path, online: Mapping[str, np.ndarray], averaged: Mapping[str, np.ndarray], step: int
) -> None:
    """Writes weights and their average as the state dict of an `ema_pytorch` module.

    Raises:
        UserError: another kind of file, PyTorch is needed and there is none, or the file cannot be
            written; nothing is left half-written.
    """
    if path.suffix not in KINDS:
        raise UserError(f"--weights={path}: is not {', '.join(KINDS)}.")
    arrays = {
        "initted": np.array([True]),
        "step": np.array([step], np.int64),
        **{ONLINE + name: array for name, array in online.items()},
        **{AVERAGED + name: array for name, array in averaged.items()},
    }
    content = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(content, **arrays)
    elif path.suffix == ".safetensors":
        content.write(safetensors.numpy.save(arrays))
    else:
        torch = _torch(path, "--weights")
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        torch.save({"model_state_dict": tensors}, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write(epath.Path(path), content.getvalue())
    except OSError as error:
        raise UserError(
            f"--weights={path}: cannot be written ({error.strerror}); choose another place."
        ) from error


def _read_torch(torch: Any, path: Path) -> dict[str, np.ndarray]:
    try:
        # Runs no code of the file; a Namespace of settings, as Lightning saves, is harmless.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refused_class(str(error))) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise ValueError("holds no state dict")
    return {
        name: _as_numpy(torch, tensor)
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }


def _refused_class(message: str) -> str:
    """PyTorch's long refusal of a pickled object, as one line."""
    found = re.search(
        r"GLOBAL ([\w.]+)|Unsupported (?:global|class|operand)[^\w]*([\w.]+)", message
    )
    name = next((group for group in (found.groups() if found else ()) if group), "an object")
    return (
        f"it pickles {name}, which is not loaded for safety; save the state dict alone: "
        "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
    )


def _as_numpy(torch: Any, tensor: Any) -> np.ndarray:
    """A tensor as an array; what NumPy has no type for (bfloat16, float8) as float32."""
    tensor = tensor.detach()
    if tensor.dtype.is_floating_point and tensor.dtype not in (
        torch.float16, torch.float32, torch.float64,
    ):  # fmt: skip
        tensor = tensor.float()
    return tensor.contiguous().numpy()


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """As safetensors' own reader, and types that NumPy lacks through JAX's, as float32."""
    arrays = {}
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > path.stat().st_size:
                raise ValueError("its header is cut")
            header = json.loads(file.read(size))
            content = file.read()
    except struct.error as error:
        raise ValueError("its header is cut") from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
        kind = SAFETENSORS_TYPES.get(entry["dtype"])
        if kind is None:
            raise ValueError(f"{name} has type {entry['dtype']}, which is not supported")
        start, stop = entry["data_offsets"]
        array = np.frombuffer(content[start:stop], np.dtype(kind)).reshape(entry["shape"])
        arrays[name] = array if array.dtype.kind in "biuf" else array.astype(np.float32)
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz}


def _torch(path: Path, setting: str) -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            f"{setting}={path}: {path.suffix} needs PyTorch, which is not installed; pip install "
            "torch, or use a .safetensors or .npz file."
        ) from error


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _bare(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without a prefix that all their names have."""
    for prefix in PREFIXES:
        if arrays and all(name.startswith(prefix) for name in arrays):
            return _bare(_below(arrays, prefix))
    return arrays
