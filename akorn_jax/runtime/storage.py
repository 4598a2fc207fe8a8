"""Atomic writes, and which errors are those of storage."""

import atexit
import contextlib
import errno
import functools
import os
import re
import shutil
import tempfile

from etils import epath

# Full, over quota, too large a file, broken, read-only, gone.
ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}


def is_storage_error(error: BaseException) -> bool:
    """Whether an error, of the file system or of TensorStore on top of it, is one of storage."""
    if isinstance(error, OSError):
        return error.errno in ERRORS
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return code is not None and int(code[1]) in ERRORS


def write(path: epath.Path, content: bytes) -> None:
    """Writes a file whole or not at all, whenever the process is killed or the disk is full."""
    partial = path.parent / f".{path.name}"
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def clean(path: str) -> str:
    """A path as all parts of the program see it: `~` expanded, no doubled slashes.

    Addresses of buckets (`gs://`) stay as they are.
    """
    return path if "://" in path else os.path.normpath(os.path.expanduser(path)).replace("//", "/")


def plain(path: epath.PathLike) -> epath.Path:
    """The path, or where libraries would read it as a pattern (`[`, `*`, `?`), a link to it.

    The link is removed when the process ends.
    """
    path = epath.Path(path)
    if "://" in str(path) or not re.search(r"[\[\]*?]", os.path.abspath(path)):
        return path
    return _link(os.path.abspath(path))


@functools.cache
def _link(path: str) -> epath.Path:
    os.makedirs(path, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="akorn_jax-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.symlink(path, os.path.join(directory, "link"))
    return epath.Path(directory) / "link"


def remove(path: epath.Path) -> None:
    """Removes a file or a directory with all that is in it; nothing if it is not there."""
    if path.is_dir():
        path.rmtree()
    else:
        path.unlink(missing_ok=True)
