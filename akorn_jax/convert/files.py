"""Files of official weights: `.pth` (or Lightning's `.ckpt`), `.safetensors` and `.npz`."""

import importlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from akorn_jax.errors import UserError

KINDS = (".pth", ".safetensors", ".npz", ".ckpt")
# What training scripts wrap a state dict in.
WRAPPERS = ("model_state_dict", "state_dict", "model")
# What modules that hold a model put before its names: Lightning's, `DataParallel`'s.
PREFIXES = ("model.", "module.")
# Names inside the state dict of an `ema_pytorch` module.
AVERAGED, ONLINE = "ema_model.", "online_model."


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights of a file and their moving average; the same twice where it has but one.

    Raises:
        UserError: if the file is missing, of another kind, damaged, or needs PyTorch and there is
            none.
    """
    if path.suffix not in KINDS:
        raise UserError(f"--weights={path}: is not {', '.join(KINDS)}.")
    if not path.is_file():
        raise UserError(f"--weights={path}: no such file.")
    try:
        arrays = _bare(_READERS.get(path.suffix, _read_torch)(path))
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--weights={path}: cannot be read ({reason[:200]}).") from error
    averaged = _below(arrays, AVERAGED)
    if not averaged:
        return arrays, arrays
    return _below(arrays, ONLINE), averaged


def write(
    path: Path, online: Mapping[str, np.ndarray], averaged: Mapping[str, np.ndarray], step: int
) -> None:
    """Writes weights and their average as the state dict of an `ema_pytorch` module.

    Raises:
        UserError: another kind of file, or PyTorch is needed and there is none.
    """
    arrays = {
        "initted": np.array([True]),
        "step": np.array([step], np.int64),
        **{ONLINE + name: array for name, array in online.items()},
        **{AVERAGED + name: array for name, array in averaged.items()},
    }
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file(arrays, path)
    elif path.suffix in (".pth", ".ckpt"):
        torch = _torch(path)
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        torch.save({"model_state_dict": tensors}, path)
    else:
        raise UserError(f"--weights={path}: is not {', '.join(KINDS)}.")


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _torch(path)
    content = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise ValueError("holds no state dict")
    return {n: t.numpy() for n, t in content.items() if isinstance(t, torch.Tensor)}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(error) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz}


def _torch(path: Path):
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            f"--weights={path}: .pth needs PyTorch, which is not installed; pip install torch, or "
            "use a .safetensors or .npz file."
        ) from error


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _bare(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without a prefix that all their names have."""
    for prefix in PREFIXES:
        if arrays and all(name.startswith(prefix) for name in arrays):
            return _bare(_below(arrays, prefix))
    return arrays
