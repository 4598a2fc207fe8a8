"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from akorn_jax.runtime import memory
{call}
import jax, jax.numpy as jnp

def f(x):  # intermediate results of 128 MB
    for _ in range(3):
        x = jax.lax.optimization_barrier(jnp.flip(x, axis=-1) + 1)
    return jnp.sum(x)

x = jnp.zeros((2**18, 64))
f = jax.jit(f).lower(x).compile()
faults = []
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_a_program_gets_its_memory_again_without_page_faults():
    def faults(call):
        program = [sys.executable, "-c", PROGRAM.format(call=call)]
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)

    assert faults("memory.keep_freed_memory()") < 1000 < faults("")
