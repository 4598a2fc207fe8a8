"""Training and scoring in processes of their own, which may fail without taking others along."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.report.run import curves
from akorn_jax.runtime import storage
from akorn_jax.runtime.lock import DirectoryLock

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


def once(workdir: Path, action: Callable[[], float]) -> bool:
    """Does something to a run that has not ended, and writes down how it ended.

    Nothing is done where it has, or where another process is at the runs of the directory above.

    Args:
        workdir: of the run.
        action: trains and scores it; returns the most megabytes that this took.

    Returns:
        Whether anything was done.

    Raises:
        Interrupted, KeyboardInterrupt: the same call resumes.
    """
    if read_outcome(workdir) is not None:
        return False
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(DirectoryLock(epath.Path(workdir.parent)))
        except UserError as error:
            logging.info("%s is left out: %s", workdir, error)
            return False
        logging.info("%s starts.", workdir)
        try:
            outcome = {"failed": "", "megabytes": round(action())}
        except Failure as failure:
            logging.warning("%s: %s", workdir, failure)
            outcome = {"failed": str(failure), "megabytes": None}
        workdir.mkdir(exist_ok=True)
        storage.write(epath.Path(workdir / OUTCOME), (json.dumps(outcome) + "\n").encode())
    return True


def read_outcome(workdir: Path) -> dict[str, Any] | None:
    """`failed`, why it did or "", and `megabytes` of a run; None where it has not ended."""
    path = workdir / OUTCOME
    return json.loads(path.read_text()) if path.exists() else None
