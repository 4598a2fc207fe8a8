"""Checkpoints of a process whose wall clock is set."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from akorn_jax.training import checksums

SET_BACK = """
    import os, sys, time
    from pathlib import Path
    import jax.numpy as jnp
    from akorn_jax.runtime import processes, tensorstore_threads
    from akorn_jax.training.checkpoint import Checkpoints

    clock = Path(os.environ["CLOCK"])

    def set_clock(seconds):
        new = clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(clock)

    def set_back(hours):
        for seconds in (30, 60):  # threads that have idled for 20 seconds end
            set_clock(seconds)
            time.sleep(0.3)
        set_clock(-3600 * hours)

    def program():
        state = {"x": jnp.arange(10.0)}
        with Checkpoints(sys.argv[1], patience=30) as checkpoints:
            checkpoints.save(1, state)
            checkpoints.wait()
            set_back(1)
            checkpoints.save(2, state)
            checkpoints.wait()
            print(checkpoints.last_step, checkpoints.stuck)

            tensorstore_threads.BEAT_SECONDS = 3600  # so none is kept
            set_back(2)
            checkpoints.patience = 1
            checkpoints.save(3, state)
            checkpoints.wait()
            print(checkpoints.last_step, checkpoints.stuck)
        return 2

    tensorstore_threads.BEAT_SECONDS = 0.05
    processes.THREAD_SECONDS = 0.5
    processes.end(program)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)
def test_the_clock_is_set_back_by_an_hour(tmp_path):
    """A save goes on; and if TensorStore has no thread, it is given up, and the process ends."""
    library, clock = tmp_path / "clock.so", tmp_path / "seconds"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    clock.write_text("0")
    checkpoints = tmp_path / "checkpoints"
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SET_BACK), checkpoints],
        env={**os.environ, "LD_PRELOAD": str(library), "CLOCK": str(clock), "XLA_FLAGS": ""},
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "2 False\n2 True\n", ran.stderr
    assert ran.returncode == 2
    assert checksums.damage(checkpoints, "2") is None
    assert f"checkpoint 3 not saved: {checkpoints} has not answered for 1 s" in ran.stderr
    assert "the last good checkpoint is 2" in ran.stderr
    assert "Traceback" not in ran.stderr
