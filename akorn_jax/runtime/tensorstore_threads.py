"""Keeps TensorStore, with which orbax reads and writes arrays, going when the clock is set back.

TensorStore's threads end after 20 idle seconds, and a new one starts only when the wall clock has
passed the start of the last: set back by an hour while none is left, none starts for an hour, and a
save or a restore waits as long. A thread that is there needs no clock, so one is kept from idling.
"""

import atexit
import functools
import threading

import numpy as np
import tensorstore

BEAT_SECONDS = 5.0  # well below TensorStore's 20


@functools.cache
def keep_one() -> None:
    """From now on, for as long as the process lives, TensorStore has a thread."""
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(over,), name="tensorstore beat", daemon=True)
    beats.start()
    atexit.register(lambda: (over.set(), beats.join()))  # none is in C++ when Python ends


def _beat(over: threading.Event) -> None:
    """Reads one number from memory, again and again; a read that is stuck is not repeated."""
    number = tensorstore.array(np.zeros(()))
    read = number.read()
    while not over.wait(BEAT_SECONDS):
        if read.done():
            read = number.read()
