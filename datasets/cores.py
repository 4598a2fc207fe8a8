"""How many cores there are to work on."""

import os


def available() -> int:
    """The cores that this process may run on."""
    # macOS and Windows do not tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
