"""Progress of a run: a bar on a terminal, lines elsewhere.

Log lines, of absl and of the standard library, have one format and go to standard error and to
`DIR/log.txt`; on a terminal they are printed above the bar.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.progress
from absl import logging as absl_logging
from etils import epath

from akorn_jax.errors import UserError

logger = logging.getLogger(__name__)

console = rich.console.Console(stderr=True, highlight=False)
FORMAT = logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%Y-%m-%d %H:%M:%S")
SECONDS_BETWEEN_LINES = 30.0
SECONDS_BEFORE_A_RATE = 1.0
_one_is_shown = threading.Lock()


def setup_logging(directory: epath.PathLike | None = None, process: int = 0) -> None:
    """Sends all log lines from INFO on to standard error and `directory/log.txt`, each once.

    Args:
        directory: the run's, which exists; None for no file. A remote one, e.g. `gs://`, gets no
            file either: lines cannot be appended there.
        process: which one this is; those other than the first only warn, on standard error.

    Raises:
        UserError: the file cannot be written.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        ours = isinstance(handler, _Console | _File | absl_logging.ABSLHandler)
        if ours or type(handler) is logging.StreamHandler:  # that of logging.basicConfig
            root.removeHandler(handler)
            handler.close()
    handlers: list[logging.Handler] = [_Console()]
    if directory is not None and "://" not in str(directory) and process == 0:
        try:
            handlers.append(_File(Path(directory) / "log.txt"))
        except OSError as error:
            raise UserError(
                f"{directory}/log.txt: cannot be written ({error.strerror}); choose another workdir"
            ) from error
    for handler in handlers:
        handler.setFormatter(FORMAT if process == 0 else _of_process(process))
        handler.setLevel(logging.INFO if process == 0 else logging.WARNING)
        handler.addFilter(_is_ours_or_serious)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.INFO)


@contextlib.contextmanager
def bar(total: int, done: int = 0, unit: str = "step") -> Iterator["Bar"]:
    """A progress bar that is there within the context, or within another's nothing.

    Args:
        total: steps in all.
        done: steps made before.
        unit: what a step is.
    """
    columns = (
        rich.progress.TextColumn("{task.completed}/{task.total}"),
        rich.progress.BarColumn(None),
        rich.progress.TextColumn("{task.fields[status]}"),
        rich.progress.TimeRemainingColumn(),
    )
    first = _one_is_shown.acquire(blocking=False)
    try:
        shown = first and console.is_terminal and jax.process_index() == 0
        display = rich.progress.Progress(*columns, console=console, expand=True, disable=not shown)
        with display:
            yield Bar(display, total, done, unit, lines=first and not shown)
    finally:
        if first:
            _one_is_shown.release()


class Bar:
    """Progress of a loop; made by `bar`."""

    def __init__(
        self, display: rich.progress.Progress, total: int, done: int, unit: str, lines: bool
    ):
        self._display = display
        self._lines = lines  # in place of a bar
        self._total, self._unit = total, unit
        self._first: tuple[int, float] | None = None  # after compilation
        self._last_line = time.monotonic()
        self._task = display.add_task(unit, total=total, completed=done, status="compiling")

    def update(self, done: int, loss: float | None = None) -> None:
        """Shows that `done` steps are made; the loss is the last that is known."""
        now = time.monotonic()
        self._display.update(self._task, completed=done)
        if self._first is None:
            self._first = (done, now)
            return
        seconds = now - self._first[1]
        if seconds < SECONDS_BEFORE_A_RATE:  # what was ready at once tells nothing of the rest
            return
        rate = (done - self._first[0]) / seconds
        status = f"{rate:.1f} {self._unit}s/s"
        if loss is not None:
            status += f", loss {loss:.4f}"
        self._display.update(self._task, status=status)
        if self._lines and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = duration((self._total - done) / max(rate, 1e-9))
            logger.info("%s %d of %d, %s, %s left", self._unit, done, self._total, status, left)


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` under an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _of_process(process: int) -> logging.Formatter:
    return logging.Formatter(
        f"%(asctime)s %(levelname).1s [process {process}] %(message)s", FORMAT.datefmt
    )


class _Console(logging.Handler):
    """Prints lines above the bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False, soft_wrap=True)


class _File(logging.FileHandler):
    """Appends lines to a file; those that a full disk refuses are on standard error alone."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _is_ours_or_serious(record: logging.LogRecord) -> bool:
    """Drops what libraries tell of their inner life.

    Some log by absl, as we do. Orbax logs dozens of lines a checkpoint, and with a traceback what
    it also raises.
    """
    if "orbax" in record.pathname:
        return record.levelno == logging.WARNING
    ours = record.name.startswith(("absl", "akorn", "datasets")) and not any(
        library in record.pathname for library in ("tensorflow_datasets", "etils", "clu")
    )
    return ours or record.levelno >= logging.WARNING


def say(message: Any) -> None:
    """Prints for people, soft-wrapped; a terminal that is gone or full never costs a result."""
    try:
        console = rich.console.Console()
        console.print(message, soft_wrap=isinstance(message, str), markup=False)
        sys.stdout.flush()
    except (OSError, UnicodeError) as error:
        logging.getLogger(__name__).warning("could not print (%s)", error)
