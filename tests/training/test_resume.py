"""A run that is killed, told to leave or finds damage ends as one that none of it happened to."""

import random
import re
import signal
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

LAST = 24


def finish(process, timeout=900):
    """The exit code, and standard error."""
    _, errors = process.communicate(timeout=timeout)
    return process.returncode, errors


def wait_for(condition, process, timeout=900):
    """Returns True once the condition holds, False if the process ended before."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return True


def saved(workdir, step):
    """The arrays of a checkpoint, by name."""
    path = workdir / "checkpoints" / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        names = checkpointer.metadata(path).item_metadata.tree
        args = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        return checkpointer.restore(path, restore_args=args)


def assert_same_end(workdir, reference, last=LAST):
    ours, theirs = saved(workdir, last), saved(reference, last)
    assert ours.keys() == theirs.keys()
    assert {name.partition(".")[0] for name in ours} >= {"params", "ema", "opt_state", "step"}
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def log(workdir):
    file = workdir / "log.txt"
    return file.read_text() if file.exists() else ""


def newest(workdir):
    directory = workdir / "checkpoints"
    names = [path.name for path in directory.iterdir()] if directory.exists() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)


def kill(process, condition, delay):
    """SIGKILL some time after the condition holds; whether the process was still there."""
    alive = wait_for(condition, process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    return alive


def test_a_kill_changes_nothing(launch, tmp_path):
    run, reference = tmp_path / "run", tmp_path / "reference"
    assert finish(launch(reference, "--mode=train"))[0] == 0
    assert kill(launch(run, "--mode=train"), lambda: newest(run) >= 6, delay=0.0)
    code, errors = finish(launch(run, "--mode=train"))
    assert code == 0, errors
    assert "Resuming from step" in log(run)
    assert_same_end(run, reference)


def test_told_to_leave_a_run_saves_and_goes_on_later(launch, tmp_path, capsys):
    long = ("--mode=train", "--config.checkpoint_every=100000", "--config.num_steps=100000")
    process = launch(tmp_path, *long)
    assert wait_for(lambda: "step 4: " in log(tmp_path), process)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code, errors = finish(process)
    assert code == 0, errors
    assert time.monotonic() - started < 60  # seconds, even where many share the cores
    assert "Preempted, checkpoint saved" in log(tmp_path)
    step = newest(tmp_path)
    assert step >= 4
    # Damage to it is named, and there is nothing older.
    file = max((tmp_path / "checkpoints" / str(step)).rglob("*"), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert launch.here(tmp_path, *long) == 2
    errors = capsys.readouterr().err
    assert f"checkpoints/{step} is damaged: {step}/" in errors
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert "no checkpoint is intact" in errors.strip().splitlines()[-1]
    assert newest(tmp_path) == step


@pytest.mark.slow
@pytest.mark.parametrize("loading", ["resident", "stream"])
def test_many_kills_at_random_times_change_nothing(launch, tmp_path, loading):
    """20 of them: while it starts, trains, evaluates on the way, saves and evaluates at the end."""
    last = 10 * LAST
    arguments = (
        f"--config.data.loading={loading}",
        f"--config.num_steps={last}",
        "--config.eval_every=24",
    )
    run, reference = tmp_path / "run", tmp_path / "reference"
    assert finish(launch(reference, *arguments))[0] == 0
    rng = random.Random(0)
    starting = [("I Training ", 1, 2.0)] * 4
    training = [("train/loss", rng.randint(1, 4), 0.2) for _ in range(12)]
    evaluating = [("I Evaluating step", 1, 0.3)] * 4
    for line, times, longest in starting + training + evaluating:
        count = log(run).count(line) + times
        process = launch(run, *arguments)
        reached = kill(
            process,
            lambda line=line, count=count: log(run).count(line) >= count,
            delay=rng.uniform(0, longest),
        )
        assert reached
    code, errors = finish(launch(run, *arguments))
    assert code == 0, errors
    resumed = set(re.findall(r"Resuming from step (\d+)", log(run)))
    assert len(resumed) > 5, "the kills were spread over the training"
    assert_same_end(run, reference, last)
    assert (run / "metrics.json").read_text() == (reference / "metrics.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(launch, tmp_path, damage):
    run, reference = tmp_path / "run", tmp_path / "reference"
    assert finish(launch(reference, "--mode=train"))[0] == 0
    assert finish(launch(run, "--mode=train"))[0] == 0
    files = [file for file in (run / "checkpoints" / str(LAST)).rglob("*") if file.is_file()]
    file = max(files, key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-1])
    code, errors = finish(launch(run, "--mode=train"))
    assert code == 0, errors
    assert f"checkpoints/{LAST} is damaged: " in errors
    assert "Resuming from step 21." in log(run)
    assert_same_end(run, reference)
