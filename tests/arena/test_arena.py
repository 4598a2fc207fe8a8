"""The arena runs what is missing, keeps what failed, and says the same in all its files."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.report import run as reports
from benchmarks.arena import __main__ as command
from benchmarks.arena import processes, runs
from benchmarks.arena.runs import Budget
from configs import arena, protocols


@pytest.mark.parametrize("scenes", arena.SCENES)
@pytest.mark.parametrize("system", arena.SYSTEMS)
def test_all_systems_share_scenes_size_slots_and_evaluation(system, scenes):
    config = arena.get_config(f"{system},{scenes}")
    expected = protocols.protocol(f"{scenes}:arena", procedural=False)
    assert config.data == expected
    sizes = re.findall(r"'image_size': (\d+)", str(config.model.to_dict()))
    assert set(map(int, sizes)) == {expected.size}
    if "num_slots" in config.model:
        assert config.model.num_slots == expected.num_clusters
    assert config.eval.evaluators == "segmentation"
    assert config.published == ()


def test_every_system_of_the_house_is_there_or_says_why_not():
    house = {path.stem for path in (processes.ROOT / "akorn_jax" / "models").glob("[!_]*.py")}
    named = {arena.get_config(system).model.name for system in arena.SYSTEMS}
    assert house - named == set(arena.ABSENT)
    assert all(reason.endswith(".") for reason in arena.ABSENT.values())


def test_larger_images_are_cut_into_as_many_patches():
    for size, patch_size in (("textured", 4), ("textured_64", 8)):
        assert arena.get_config(f"akorn,{size}").model.patch_size == patch_size
        assert arena.get_config(f"dinosaur,{size}").model.encoder.patch_size == patch_size


def test_gecos_aim_follows_the_number_of_pixels():
    config = arena.small("efficient_morl")
    before = config.model.image_size, config.task.geco.goal
    arena.place(config, "textured_64:arena")
    expected = before[1] * (64 / before[0]) ** 2  # goals are rounded
    assert config.task.geco.goal == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("system", arena.SYSTEMS)
def test_stretching_there_and_back_changes_nothing(system):
    config, before = arena.get_config(system), arena.get_config(system)
    arena.stretch(config, 100 * before.num_steps)
    assert config.num_steps == 100 * before.num_steps
    arena.stretch(config, before.num_steps)
    assert config.to_dict() == before.to_dict()


def test_schedules_are_stretched_wherever_they_are():
    config = arena.get_config("dti_sprites")
    drops = config.optimizer.learning_rate.boundaries
    arena.stretch(config, 2 * config.num_steps)
    assert config.optimizer.learning_rate.boundaries == tuple(2 * step for step in drops)
    _, encoder = config.optimizer.groups
    assert tuple(encoder[1]["learning_rate"]["boundaries"]) == tuple(2 * step for step in drops)
    assert config.task.reassign_every == arena.get_config("dti_sprites").task.reassign_every


def test_the_time_to_nearly_the_last_score():
    steps = np.arange(1, 5) * 10
    curves = {
        "train/step_seconds": (steps, np.full(4, 0.5)),
        "eval/fg_ari": (steps, np.array([0.2, 0.6, 0.55, 0.6])),
    }
    run = reports.Run(epath.Path("x"), None, {"step": 40}, [], {}, curves, [])
    assert runs.seconds_to_nearly(run) == 10.0
    curves["eval/fg_ari"] = (steps, np.array([0.2, 0.6, 0.55, -0.1]))
    assert runs.seconds_to_nearly(run) is None
    del curves["eval/fg_ari"]
    assert runs.seconds_to_nearly(run) is None


def test_a_directory_has_one_budget(tmp_path):
    with pytest.raises(UserError, match="name systems"):
        runs.remember(tmp_path, None)
    assert runs.remember(tmp_path, Budget(seconds=60.0)) == Budget(seconds=60.0)
    assert runs.remember(tmp_path, None) == Budget(seconds=60.0)
    with pytest.raises(UserError, match="budget of 60 s; choose another"):
        runs.remember(tmp_path, Budget(images=10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems=monett"], "--systems=monett: is unknown; there are akorn, "),
        (["--scenes=clevr"], "--scenes=clevr: is unknown; there are textured"),
        (["--budget=10"], "--budget=10: give a time, e.g. 90s, 10m or 2h"),
        (["--budget=0s"], "--budget=0s: give a time"),
        (["--seeds=0"], "--seeds=0: give 1 or more"),
        (["--images=-4"], "--images=-4: give 1 or more"),
        (["--config.seed=3"], "the arena sets the seeds"),
        (["--steps=3"], "--steps=3: no such option"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_times():
    assert [command.seconds(t) for t in ("90s", "10m", "1.5h")] == [90, 600, 5400]


def test_processes_say_what_they_took_and_why_they_failed(tmp_path):
    log = tmp_path / "output.txt"
    done = processes.call(["-c", "x = bytearray(10**8)"], log)
    assert done.megabytes > 100
    for code, reason in (
        ("import sys; sys.exit('error: no such thing')", "no such thing (exit code 1)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ):
        with pytest.raises(processes.Failure) as failure:
            processes.call(["-c", code], log)
        assert reason in str(failure.value)
    with pytest.raises(processes.Interrupted):
        processes.call(["-c", "import sys; sys.exit(124)"], log)


SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


@pytest.mark.slow
def test_sigterm_ends_the_process_that_was_started(tmp_path):
    program = (
        "from pathlib import Path; from benchmarks.arena import processes\n"
        "with processes.stopping_on_sigterm():\n"
        f"    processes.call(['-c', {SLEEPER!r}, {str(tmp_path / 'pid')!r}], Path('/dev/null'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=processes.ROOT, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in error
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
