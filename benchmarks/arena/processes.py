"""Training and scoring in processes of their own, which may fail without taking others along."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from akorn_jax.report.run import curves
from akorn_jax.runtime import storage

ROOT = Path(__file__).parents[2]
TIME_LIMIT, INTERRUPTED = 124, 130  # exit codes of launch.py
OUTCOME = "outcome.json"  # of a run's directory
CALIBRATION_STEPS = 40


class Failure(Exception):
    """A process ended badly; the message is its last line of standard error."""


class Interrupted(Exception):
    """A process was ended from outside; the same command resumes."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a process took: `seconds` of wall time and the most `megabytes` it had resident."""

    seconds: float
    megabytes: float


def call(arguments: Sequence[str], log: Path) -> Done:
    """Runs `python ARGUMENTS` in the repository's root; its output is appended to `log`.

    If this process is interrupted, so is the other, which saves what it has.

    Raises:
        Failure: it ended with an error.
        Interrupted: it was ended by a signal that asks to stop, or reached its time limit.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code in (TIME_LIMIT, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT):
        raise Interrupted(f"stopped with code {code}; run the same command to resume")
    if code:
        raise Failure(_reason(log, code))
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return Done(time.monotonic() - start, usage.ru_maxrss * scale / 1e6)


def _reason(log: Path, code: int) -> str:
    """Why a process failed: its last line, without what logging puts before it."""
    lines = log.read_bytes().decode(errors="replace").splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{last.removeprefix('error: ')[:300]} ({ended})"


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """SIGTERM counts as the interrupt of a keyboard: processes that were started end too."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def step_seconds(recipe: Path, workdir: Path, overrides: Sequence[str]) -> float:
    """Seconds of a training step, without compilation: the last of a few dozen of a short run.

    Raises:
        Failure, Interrupted: see `call`.
    """
    every = CALIBRATION_STEPS // 4
    launch(
        recipe,
        workdir,
        *overrides,
        f"--config.num_steps={CALIBRATION_STEPS}",
        f"--config.log_every={every}",
        f"--config.checkpoint_every={CALIBRATION_STEPS}",
        "--config.eval_every=0",
        mode="train",
    )
    _, seconds = curves(epath.Path(workdir))["train/step_seconds"]
    return float(seconds[-1])


def launch(recipe: Path, workdir: Path, *overrides: str, mode: str) -> Done:
    """One mode of `launch.py`; raises as `call`."""
    options = [f"--config={recipe}", f"--workdir={workdir}", f"--mode={mode}", *overrides]
    return call(["launch.py", *options], workdir / "output.txt")


def write_outcome(workdir: Path, outcome: dict[str, Any]) -> None:
    """Says in a run's directory how it ended."""
    workdir.mkdir(parents=True, exist_ok=True)
    content = json.dumps(outcome, indent=1) + "\n"
    storage.write(epath.Path(workdir / OUTCOME), content.encode())


def read_outcome(workdir: Path) -> dict[str, Any] | None:
    """How a run ended; None where it has not."""
    path = workdir / OUTCOME
    return json.loads(path.read_text()) if path.exists() else None
