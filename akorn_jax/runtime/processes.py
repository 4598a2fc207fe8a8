"""One program in several processes: on the hosts of a TPU pod, or one for each GPU or node.

Every process runs the same command. Process 0 alone writes logs, metrics, pictures and checksums.
"""

import atexit
import contextlib
import glob
import importlib.util
import itertools
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed  # for its key-value store, which has no public name; as orbax does

from akorn_jax.errors import UserError

# A peer is dead after BEATS missed heartbeats.
BEAT_SECONDS = 5
BEATS = 8
# JAX's own watch: it names the dead in a C++ stack trace, and aborts also after all were suspended.
HEARTBEAT_SECONDS = 300
DEAD_PEER = 75  # exit code: EX_TEMPFAIL, "try again later", of sysexits.h
# How long processes that are done wait for the others: process 0 evaluates alone at the end.
SHUTDOWN_SECONDS = 7 * 24 * 3600
# How long a program that has ended waits for its threads, one of which may wait for a dead disk.
THREAD_SECONDS = 30.0


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the other processes, if there are any; call it before anything uses a device.

    Without arguments the processes are those of the TPU slice or of the Slurm step; elsewhere this
    process is alone.

    Args:
        coordinator: HOST:PORT of process 0, which listens there.
        num_processes: how many there are.
        process_id: which of them this one is, from 0 on.

    Raises:
        UserError: some arguments are missing, do not fit together, or the others do not come.
    """
    given = (coordinator, num_processes, process_id)
    if all(value is None for value in given):
        if not (_in_slurm_step() or _on_tpu()):
            return
    elif None in given:
        raise UserError("--coordinator, --num_processes and --process_id: give all three or none.")
    elif ":" not in coordinator:
        raise UserError(f"--coordinator={coordinator}: give HOST:PORT of process 0.")
    elif not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id}: there are {num_processes}, numbered from 0 on; see "
            "--num_processes."
        )
    # CPU devices of several processes work together only by a library of collectives.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            *given,
            initialization_timeout=300,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The processes did not find each other: {reason}") from error
    if jax.process_count() > 1:
        client = distributed.global_state.client
        threading.Thread(target=_watch_peers, args=(client,), daemon=True).start()


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def end(program: Callable[[], int]) -> None:
    """Runs a program and ends the process with its exit code.

    One of several processes that fails leaves at once: at a usual exit it would wait for the
    others, who wait for it. Where a peer has died, there is time to say which. A thread that never
    ends, e.g. since storage does not answer, does not hold the process for long.
    """
    try:
        code = program()
    except Exception as error:
        if jax.process_count() == 1:
            _limit_threads(1)
            raise
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            print(f"{str(error).splitlines()[0]} Is a process dead?", file=sys.stderr, flush=True)
            time.sleep(2 * BEATS * BEAT_SECONDS)  # within which `_watch_peers` would end this one
        traceback.print_exc()
        code = 1
    if code in (0, 124) or not jax.distributed.is_initialized():
        _limit_threads(code)
        sys.exit(code)
    _leave(code)


def _limit_threads(code: int) -> None:
    """Python joins all threads before it ends; after `THREAD_SECONDS` it ends without."""
    timer = threading.Timer(THREAD_SECONDS, _leave, (code,))
    timer.daemon = True
    timer.start()
    atexit.register(timer.cancel)  # called when they are joined


def _leave(code: int) -> None:
    """Ends the process at once."""
    with contextlib.suppress(OSError):  # a closed pipe
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _watch_peers(client: Any) -> None:
    """Sends this process's heartbeat, and ends it when a peer's has stopped.

    Beats are counted, not seconds, so that nobody is missed after all were suspended. Where process
    0 is gone, so is the store, and JAX ends this process.
    """
    seen: dict[str, str] = {}
    missed: Counter[str] = Counter()
    for beat in itertools.count():
        try:
            client.key_value_set(
                f"heartbeat/{jax.process_index()}", str(beat), allow_overwrite=True
            )
            heartbeats = dict(client.key_value_dir_get("heartbeat/"))
        except jax.errors.JaxRuntimeError:
            return
        for key, heartbeat in heartbeats.items():
            missed[key] = missed[key] + 1 if seen.get(key) == heartbeat else 0
        seen = heartbeats
        dead = sorted(int(key.rpartition("/")[2]) for key in missed if missed[key] >= BEATS)
        if dead:
            if is_primary():  # the store goes with it, so the others look first
                time.sleep(3 * BEAT_SECONDS)
            names = ", ".join(map(str, dead))
            print(
                f"error: process {names} of {jax.process_count()} died or failed (its own last "
                "lines say why); what was saved is intact: run the same command again.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(DEAD_PEER)
        time.sleep(BEAT_SECONDS)


def _in_slurm_step() -> bool:
    """Whether `srun` started this process as one of several."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def _on_tpu() -> bool:
    """Whether this machine has TPU chips, and JAX the library for them."""
    if "tpu" not in os.environ.get("JAX_PLATFORMS", "tpu"):
        return False
    chips = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None
