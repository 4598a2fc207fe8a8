"""One writer per run directory.

The lock is a file that names its holder and is touched every few seconds. A holder on this machine
is gone when its process is; one on another machine when the file is old. So a lock that a killed
process left is taken over, also on a network disk and after a reboot.
"""

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from etils import epath

from akorn_jax.errors import UserError

FILE = ".lock"
TOUCH_SECONDS = 5
STALE_SECONDS = 60


class DirectoryLock:
    """Held while a run directory is written; use as a context manager.

    Args:
        workdir: a directory that exists. Nothing is locked in buckets (`gs://`), which have no
            files that only one process can create.

    Raises:
        UserError: another process holds it; the line says which, where and since when.
    """

    def __init__(self, workdir: epath.Path) -> None:
        self._workdir = workdir
        self._path = None if "://" in str(workdir) else Path(workdir) / FILE
        self._stop = threading.Event()

    def __enter__(self) -> "DirectoryLock":
        if self._path is not None:
            self._acquire()
            threading.Thread(target=self._touch, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _acquire(self) -> None:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        }
        content = json.dumps(holder).encode()
        try:
            while True:
                try:
                    descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                except FileExistsError:
                    self._take_over()
                    continue
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                return
        except OSError as error:
            raise UserError(
                f"--workdir={self._workdir}: cannot be written ({error.strerror}); choose another "
                "directory."
            ) from error

    def _take_over(self) -> None:
        """Removes a stale lock, or raises."""
        try:
            age = time.time() - self._path.stat().st_mtime
            text = self._path.read_text()
        except FileNotFoundError:  # just released
            return
        try:
            holder = json.loads(text)
            host, pid, started = holder["host"], int(holder["pid"]), holder["started"]
        except (ValueError, KeyError, TypeError):  # killed while writing it, or writing it now
            host, pid, started, holder = None, 0, None, {"since": "just now"}
        if host == socket.gethostname():
            stale = _start_of(pid) is None or _start_of(pid) != started
        else:
            stale = age > STALE_SECONDS
        if not stale:
            raise UserError(
                f"--workdir={self._workdir}: is being written by process {pid} on {host} since "
                f"{holder.get('since')}; wait for it or choose another directory."
            )
        self._path.unlink(missing_ok=True)

    def _touch(self) -> None:
        while not self._stop.wait(TOUCH_SECONDS):
            try:
                os.utime(self._path)
            except OSError:  # the directory was removed: there is nothing left to guard
                return


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, which tells it from a later one of its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():  # not Linux
        return "running"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {stat.read_text().rpartition(')')[2].split()[19]}"
