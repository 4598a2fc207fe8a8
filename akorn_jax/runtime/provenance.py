"""How a run was made: the command, the versions and the devices of each of its starts."""

import importlib.metadata
import json
import os
import platform
import shlex
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.runtime import storage

FILE = "launches.jsonl"
FIELDS = {"time", "command", "versions", "devices", "cores", "processes", "platform"}
PACKAGES = ("akorn-jax", "jax", "jaxlib", "flax", "optax", "numpy")


def record(workdir: epath.Path, arguments: Sequence[str]) -> None:
    """Adds this start to `DIR/launches.jsonl`; of several processes, the first does.

    Args:
        workdir: of the run, which exists.
        arguments: of the command line, without the program's name.

    Raises:
        UserError: the directory cannot be written.
    """
    if jax.process_index() > 0:
        return
    path = workdir / FILE
    line = json.dumps(describe(arguments)) + "\n"
    try:
        before = path.read_text() if path.exists() else ""
        storage.write(path, (before + line).encode())
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror}).") from error


def describe(arguments: Sequence[str]) -> dict[str, Any]:
    """This start: time, command, versions, devices."""
    devices = jax.devices()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["python", "launch.py", *arguments]),
        "versions": {"python": platform.python_version(), **versions()},
        "platform": platform.platform(terse=True),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cores": os.cpu_count(),
        "processes": jax.process_count(),
    }


def versions() -> dict[str, str]:
    """Versions of the installed packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found


def read(workdir: epath.Path) -> list[dict[str, Any]]:
    """All recorded starts, the first first; none for a run that was made by other means."""
    path = workdir / FILE
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
        try:
            start = json.loads(line)
            if start.keys() >= FIELDS:
                found.append(start)
                continue
        except (ValueError, AttributeError, RecursionError):
            pass
        logging.warning("%s, line %d is damaged and left out.", path, number)
    return found
