"""Early exit: SIGTERM preemption and the max_hours limit.

A notice is SIGTERM, as Cloud TPU, Slurm and Kubernetes send it; on one's own machine also Ctrl-C
(a second one ends at once) and SIGHUP of a closed terminal. A process alone listens itself; of
several, each may get the notice, and JAX's preemption service finds a step that all of them will
reach, so that all save the same one.
"""

import enum
import os
import signal
import time
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

NOTICES = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Outcome(enum.Enum):
    """Why a run ended."""

    DONE = "done"
    TIME_LIMIT = "time limit"
    PREEMPTED = "preempted"


class StopSignal:
    """Asked after every call of the compiled step; use as a context manager.

    All processes ask equally often. The process 0's clock counts.

    Args:
        max_hours: from now on; 0 is no limit.
    """

    def __init__(self, max_hours: float) -> None:
        self._deadline = time.monotonic() + 3600 * max_hours if max_hours > 0 else float("inf")
        self._alone = jax.process_count() == 1
        self._noticed = False
        self._calls = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if self._alone:
            self._previous = {number: signal.signal(number, self._notice) for number in NOTICES}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def __call__(self) -> Outcome | None:
        """Why to save and exit now; None to continue."""
        late = time.monotonic() > self._deadline
        if not self._alone:
            return self._agreed(late)
        if self._noticed:
            return Outcome.PREEMPTED
        return Outcome.TIME_LIMIT if late else None

    def _agreed(self, late: bool) -> Outcome | None:
        if late and jax.process_index() == 0 and not self._noticed:
            self._noticed = True
            os.kill(os.getpid(), signal.SIGTERM)  # JAX tells the others, as of any notice
        self._calls += 1
        if not multihost_utils.reached_preemption_sync_point(self._calls):
            return None
        own = multihost_utils.broadcast_one_to_all(np.int32(self._noticed))
        return Outcome.TIME_LIMIT if own else Outcome.PREEMPTED

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if signum == signal.SIGINT and self._noticed:
            raise KeyboardInterrupt
        self._noticed = True
