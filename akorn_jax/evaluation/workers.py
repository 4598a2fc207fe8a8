"""Worker processes for NumPy and SciPy work that holds Python's lock.

A worker is a fresh interpreter, started by `exec`: forking a process in which JAX runs threads can
deadlock, and the start methods of `multiprocessing` that do not fork import the main program again
in every worker, JAX included. A worker imports only the modules of the functions it is given, so
these should be modules that do not import JAX (`akorn_jax.evaluation.clustering`, `.baselines`).
"""

import collections
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
# One thread a worker: together the workers fill the cores.
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LOOKAHEAD = 8  # items in flight for each worker


def available_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Workers:
    """Processes that apply functions to items, in order; use as a context manager.

    Args:
        num_workers: processes; 0: do the work in this process; None: one a core.
    """

    def __init__(self, num_workers: int | None = None):
        self.num_workers = available_cores() if num_workers is None else num_workers
        if self.num_workers < 0:
            raise ValueError(f"{num_workers=}: give 0 (this process) or a number of processes")
        self._processes: list[subprocess.Popen] = []
        self._idle: queue.SimpleQueue[tuple[subprocess.Popen, Connection]] = queue.SimpleQueue()
        # A thread for each process: it sends an item and waits for the result.
        self._threads = ThreadPoolExecutor(max(1, self.num_workers))

    def imap(self, function: Callable[..., Any], items: Iterable[tuple]) -> Iterator[Any]:
        """`function(*item)` of every item, in order, as they become ready.

        Items are drawn from the iterable a bounded number ahead of the results, in the caller's
        thread: while it computes the next items (on the device, say), the workers are busy.

        Args:
            function: importable by name; its module is imported in every worker.
            items: tuples of arguments that can be pickled.

        Raises:
            Exception: what `function` raised.
            RuntimeError: a worker ended unasked.
        """
        if self.num_workers == 0:
            yield from (function(*item) for item in items)
            return
        self._start()
        pending = collections.deque()
        for item in items:
            pending.append(self._threads.submit(self._run, function, item))
            if len(pending) >= LOOKAHEAD * self.num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _start(self) -> None:
        environment = {**os.environ, **SINGLE_THREAD}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        while len(self._processes) < self.num_workers:
            ours, theirs = Pipe()
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
            theirs.close()
            self._processes.append(process)
            self._idle.put((process, ours))

    def _run(self, function: Callable[..., Any], item: tuple) -> Any:
        process, connection = self._idle.get()
        try:
            connection.send((function, item))
            result = connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(
                f"worker {process.pid} ended with code {process.wait()}: see its messages above; "
                "-9 means that memory ran out, try fewer workers"
            ) from error
        finally:
            self._idle.put((process, connection))
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Ends the processes; work in flight is dropped."""
        for process in self._processes:
            process.terminate()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.wait()
        while not self._idle.empty():
            self._idle.get()[1].close()
        self._processes.clear()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve(connection: Connection) -> None:
    """A worker's life: calls functions and sends back their results, until the pipe closes."""
    while True:
        try:
            function, item = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            result = function(*item)
        except Exception as error:  # raised again where the result is asked for
            result = error
        try:
            connection.send(result)
        except ConnectionError:  # nobody waits for it any more
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    serve(Connection(int(sys.argv[1])))
