"""SHA-256 of all files of a directory, kept beside it in the format of `sha256sum -c`.

`DIR/120.sha256` belongs to `DIR/120`. It names every file of it, and ends with a comment that has
their number and the digest of the lines before, so a shortened list is damage too. While the
directory is being written it holds the one line `saving`: so a directory whose writer was killed
differs from one whose checksums were lost. Works on local paths and on those that etils.epath knows
(`gs://`).
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator

from etils import epath

SAVING = "saving\n"
SEAL = "#"  # `sha256sum -c` passes over such a line


def file_of(directory: epath.Path, name: str) -> epath.Path:
    """Where the checksums of `directory / name` are."""
    return directory / f"{name}.sha256"


def begin(directory: epath.Path, name: str) -> None:
    """Notes that `directory / name` is about to be written."""
    file_of(directory, name).write_text(SAVING)


def write(directory: epath.Path, name: str, temporary_suffix: str) -> None:
    """Hashes all files of `directory / name`; the list appears at once or not at all."""
    lines = [f"{_sha256(directory / file)}  {file}\n" for file in _files(directory, name)]
    temporary = directory / f"{name}.sha256{temporary_suffix}"
    temporary.write_text("".join(lines) + _seal(lines))
    temporary.replace(file_of(directory, name))


def incomplete(directory: epath.Path, name: str) -> bool:
    """Whether `begin` was called for `directory / name` but not `write`."""
    file = file_of(directory, name)
    return file.exists() and file.read_bytes() == SAVING.encode()


def damage(directory: epath.Path, name: str) -> str | None:
    """What is wrong with `directory / name`; None if every file is as it was written."""
    file = file_of(directory, name)
    if not file.exists():
        return f"{file.name} is missing"
    if not is_regular(file):
        return f"{file.name} is no regular file"
    lines = file.read_bytes().decode(errors="replace").splitlines(keepends=True)
    if not lines:
        return f"{file.name} is empty"
    if lines[-1].startswith(SEAL):
        *lines, seal = lines
        if seal != _seal(lines):
            return f"{file.name} has changed since it was written"
    listed = {line.partition("  ")[2].rstrip("\n") for line in lines}
    if (directory / name).is_dir():
        for extra in sorted(set(_files(directory, name)) - listed):
            return f"{extra} is not in {file.name}"
    for line in lines:
        line = line.rstrip("\n")
        digest, _, child = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not child.startswith(f"{name}/"):
            return f"{file.name} is not a list of checksums"
        if not (directory / child).exists():
            return f"{child} is missing"
        if not is_regular(directory / child):
            return f"{child} is no regular file"
        if _sha256(directory / child) != digest:
            return f"{child} has changed since it was written"
    return None


def is_regular(path: epath.Path) -> bool:
    """Whether a path is a file that can be read to its end, not a pipe or a device."""
    return "://" in str(path) or stat.S_ISREG(os.stat(path).st_mode)


def _seal(lines: list[str]) -> str:
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return f"{SEAL} {len(lines)} files, {digest}\n"


def _files(directory: epath.Path, name: str) -> Iterator[str]:
    """All files under `directory / name`, relative to `directory`, sorted."""
    for path in sorted((directory / name).iterdir()):
        child = f"{name}/{path.name}"
        if path.is_dir():
            yield from _files(directory, child)
        else:
            yield child


def _sha256(path: epath.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
