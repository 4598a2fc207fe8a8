"""Storage that fails, and files that a killed run leaves whole: what a run outlives."""

import errno
import re

from etils import epath

# Full, over quota, too large a file, broken, read-only, gone.
ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}


def is_to_blame(error: BaseException) -> bool:
    """Whether an error, of the file system or of TensorStore on top of it, is one of storage."""
    if isinstance(error, OSError):
        return error.errno in ERRORS
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return code is not None and int(code[1]) in ERRORS


def write(path: epath.Path, content: bytes) -> None:
    """Writes a file whole or not at all, whenever the process is killed."""
    partial = path.parent / f".{path.name}"
    partial.write_bytes(content)
    partial.replace(path)


def remove(path: epath.Path) -> None:
    """Removes a file or a directory with all that is in it; nothing if it is not there."""
    if path.is_dir():
        path.rmtree()
    else:
        path.unlink(missing_ok=True)
