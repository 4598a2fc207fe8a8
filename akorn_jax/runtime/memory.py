"""Memory that a computation on a CPU frees stays with the process, for the next one."""

import ctypes
import sys

import jax

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Lets malloc keep large arrays that are freed; call it before JAX starts a backend.

    A compiled program takes the memory of all its intermediate results when it starts and frees it
    when it ends. The system would give and take that each time, and clear it page by page: a tenth
    of a training step on a CPU. Only the main thread's heap can grow large enough to keep it, so
    programs on CPUs run there, not in a thread of JAX; those on accelerators are as before. Where
    the C library is not glibc, nothing is kept.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
