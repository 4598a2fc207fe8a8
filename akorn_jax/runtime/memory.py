"""Memory that a computation on a CPU frees stays with the process, for the next one."""

import ctypes
import sys

import jax

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Lets malloc keep large arrays that are freed, where programs run on a CPU.

    A compiled program takes the memory of all its intermediate results when it starts and frees it
    when it ends. The system would give and take that each time, and clear it page by page: a tenth
    of a training step on a CPU. Only the main thread's heap can grow large enough to keep it, so
    programs must run there, not in a thread of JAX: `jax_cpu_enable_async_dispatch` must have been
    off when the backend started. On accelerators, and where the C library is not glibc, nothing is
    changed.
    """
    if jax.default_backend() != "cpu" or sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
