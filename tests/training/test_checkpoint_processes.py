"""Checkpoints of processes that are killed, and of two processes that must agree."""

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.training.checkpoint import Checkpoints

KILLED = """
    import os, signal, sys, threading
    import jax, jax.numpy as jnp
    from akorn_jax.training import checksums
    from akorn_jax.training.checkpoint import Checkpoints

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoints = Checkpoints(sys.argv[1], keep=1)
    state = {str(i): jnp.full((512, 512), 1.0) for i in range(4)}
    if sys.argv[2] == "old":
        checkpoints.save(1, state)
        checkpoints.wait()
    if sys.argv[3] == "checksums":
        checksums.write = die
    checkpoints.save(2, {name: 2 * x for name, x in state.items()})
    if sys.argv[3] == "write":
        die()
    checkpoints.wait()
"""


@pytest.mark.parametrize(("before", "moment"), [("old", "write"), ("none", "checksums")])
def test_killed_while_saving(tmp_path, caplog, before, moment):
    caplog.set_level(logging.INFO)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path, before, moment]
    killed = subprocess.run(command, timeout=120, env={**os.environ, "XLA_FLAGS": ""}, check=False)
    assert killed.returncode == -signal.SIGKILL
    like = {str(i): jnp.zeros((512, 512)) for i in range(4)}
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        restored = checkpoints.restore_latest(like)
        if before == "old":
            assert restored.step == 1
            np.testing.assert_array_equal(restored.state["3"], 1.0)
        else:
            assert restored is None
        assert "is damaged" not in caplog.text
        checkpoints.save(3, like)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "3.sha256"]


PROCESSES = """
    import errno, sys, threading
    import jax, jax.numpy as jnp, numpy as np
    from jax.experimental.multihost_utils import sync_global_devices

    rank, directory = int(sys.argv[1]), sys.argv[2]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[3], 2, rank, initialization_timeout=60)
    from akorn_jax.runtime import sharding
    from akorn_jax.training import checksums
    from akorn_jax.training.checkpoint import Checkpoints

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def make():
        return {"w": jnp.arange(128 * 64.0).reshape(128, 64), "step": jnp.int32(0)}

    shapes = jax.eval_shape(make)
    placement = sharding.state_sharding(shapes, sharding.make_mesh({"data": 2, "fsdp": 2}))
    state = jax.jit(make, out_shardings=placement)()
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(shapes, placement) is None
        checkpoints.save(1, state)
        checkpoints.wait()
        if rank == 0:
            begin, checksums.begin = checksums.begin, full
        checkpoints.save(2, state)  # process 0 alone cannot write
        checkpoints.wait()
        if rank == 0:
            checksums.begin = begin
        checkpoints.save(3, state)
        checkpoints.wait()
        sync_global_devices("saved")
        if rank == 0:
            checksums.file_of(checkpoints.directory, "3").write_text("damaged")
        sync_global_devices("damaged")
    with Checkpoints(directory) as checkpoints:
        restored = checkpoints.restore_latest(shapes, placement)
    assert restored.step == 1
    for shard in restored.state["w"].addressable_shards:
        np.testing.assert_array_equal(shard.data, np.asarray(make()["w"])[shard.index])
    with Checkpoints(directory) as checkpoints:
        answer = threading.Event()
        if rank == 1:
            seal = checkpoints._seal
            checkpoints._seal = lambda step: (answer.wait(), seal(step))
            checkpoints.patience = 0.1
        checkpoints.save(4, state)
        checkpoints.save(5, state)  # process 1 alone is not done with 4
        assert checkpoints.stuck == (rank == 1)
        answer.set()
        checkpoints.patience = 60.0
        while checkpoints.stuck:
            checkpoints.wait()
        checkpoints.save(6, state)
        checkpoints.wait()
        assert checkpoints.last_step == 6
        assert 5 not in checkpoints.steps()
"""


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=2"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROCESSES), str(rank), tmp_path, address],
            env={**os.environ, "XLA_FLAGS": flags},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
