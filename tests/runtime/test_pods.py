"""Several processes are one run."""

import signal
import socket
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax.errors import UserError
from akorn_jax.runtime import processes


def together(launch, workdir, *arguments, count=2, devices=2):
    """Starts launch.py in processes that work together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    others = (f"--coordinator={address}", f"--num_processes={count}")
    return [
        launch(workdir, *arguments, *others, f"--process_id={i}", devices=devices)
        for i in range(count)
    ]


def finish(started, timeout=900):
    """Exit codes, and what was on standard error."""
    errors = [process.communicate(timeout=timeout)[1] for process in started]
    return [process.returncode for process in started], errors


def wait_for_steps(started, file):
    """Returns when some steps are made."""
    while not file.exists() or "step 4: " not in file.read_text():
        for process in started:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


def assert_same(one, two, name, steps):
    """The scalars of two runs, which have one at each of these steps."""
    found = []
    for workdir in (one, two):
        events = EventAccumulator(str(workdir)).Reload().Scalars(name)
        assert [event.step for event in events] == list(steps)
        found.append([event.value for event in events])
    np.testing.assert_allclose(*found, rtol=1e-5, err_msg=name)


COMMON = ("--config.log_every=1", "--config.optimizer.schedule=constant")
TRAIN = ("--mode=train", *COMMON)


def test_two_processes_train_as_one_and_one_goes_on_where_they_stopped(launch, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert launch.here(one, *TRAIN, "--config.num_steps=9") == 0
    sharded = ("--config.num_steps=6", "--config.mesh.fsdp=2")
    codes, errors = finish(together(launch, two, *TRAIN, *sharded))
    assert codes == [0, 0], errors
    # Only the first writes.
    assert len(list(two.glob("events.out.tfevents.*"))) == 1
    assert (two / "log.txt").read_text().count("Training ") == 1
    assert "Training " not in errors[1]

    assert launch.here(two, *TRAIN, "--config.num_steps=9") == 0
    assert "Resuming from step 6." in (two / "log.txt").read_text()
    assert_same(one, two, "train/loss", range(1, 10))


@pytest.mark.slow
def test_two_processes_stream_their_shares_and_evaluate(launch, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    short = (*COMMON, "--config.num_steps=6", "--config.eval_every=3")
    codes, errors = finish([launch(one, *short, devices=4)])
    assert codes == [0], errors
    codes, errors = finish(together(launch, two, *short, "--config.data.loading=stream"))
    assert codes == [0, 0], errors
    assert_same(one, two, "train/loss", range(1, 7))
    assert_same(one, two, "eval/loss", (3, 6))
    assert (two / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_notice_to_one_process_stops_all_at_one_step(launch, tmp_path, told):
    endless = ("--config.num_steps=100000", "--config.checkpoint_every=100000")
    started = together(launch, tmp_path, "--mode=train", *endless)
    wait_for_steps(started, tmp_path / "log.txt")
    started[told].send_signal(signal.SIGTERM)
    began = time.monotonic()
    codes, errors = finish(started)
    assert codes == [0, 0], errors
    assert time.monotonic() - began < 60
    (step,) = [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdecimal()]
    assert int(step) >= 4
    assert "Preempted, checkpoint saved" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_the_time_limit_of_process_0_stops_all(launch, tmp_path):
    endless = ("--config.num_steps=100000", "--config.max_hours=0.0001")
    codes, errors = finish(together(launch, tmp_path, "--mode=train", *endless))
    assert codes == [124, 124], errors


@pytest.mark.slow
@pytest.mark.parametrize(("count", "dead"), [(2, 1), (4, 2), (2, 0), (4, 0)])
def test_a_dead_peer_ends_the_others(launch, tmp_path, count, dead):
    """Within a minute, with a line that says which; process 0 takes JAX's service with it."""
    endless = ("--mode=train", "--config.num_steps=100000")
    started = together(launch, tmp_path, *endless, count=count)
    wait_for_steps(started, tmp_path / "log.txt")
    started.pop(dead).kill()
    began = time.monotonic()
    codes, errors = finish(started)
    assert time.monotonic() - began < 120  # seconds, where many share the cores
    for code, lines in zip(codes, errors, strict=True):
        if dead == 0:
            assert code == -signal.SIGABRT
            assert "leader task was preempted/died" in lines
        else:
            assert code == processes.DEAD_PEER
            assert f"error: process {dead} of {count} died or failed" in lines.splitlines()[-1]
            assert "stack trace" not in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_processes=2"], "give all three or none"),
        (["--coordinator=here", "--num_processes=2", "--process_id=0"], "give HOST:PORT"),
        (["--coordinator=here:1", "--num_processes=2", "--process_id=2"], "there are 2"),
    ],
)
def test_processes_that_are_told_too_little(arguments, message):
    given = dict(argument.lstrip("-").split("=") for argument in arguments)
    given |= {name: int(value) for name, value in given.items() if name != "coordinator"}
    with pytest.raises(UserError, match=message):
        processes.initialize(**given)
