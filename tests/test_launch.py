"""The command line: the whole run, and one clear line for whatever the user did wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import launch

ROOT = Path(__file__).parents[1]
TINY = [
    f"--config={ROOT}/configs/demo.py",
    "--config.num_steps=4",
    "--config.batch_size=8",
    "--config.model.channels=8",
    "--config.model.num_steps=2",
    "--config.data.train=(32, 128)",
    "--config.data.test=(0, 16)",
    "--config.data.max_records=128",
    "--config.mesh.data=1",
    "--config.mesh.fsdp=-1",
    "--config.log_every=2",
    "--config.checkpoint_every=2",
    "--config.eval.num_workers=1",
]


def test_a_run_from_nothing_to_scores_and_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir, data_dir = Path("run"), Path("data")  # relative, as the README has them
    command = [*TINY, f"--workdir={workdir}", f"--config.data_dir={data_dir}"]
    assert launch.main(command) == 0
    output = capsys.readouterr()
    assert "this model" in output.out
    assert "pixel colors" in output.out
    assert str(workdir / "figures" / "segmentation.png") in output.out.replace("\n", "")
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["step"] == 4
    assert (workdir / "log.txt").read_text().count("I Training ") == 1

    # The run's directory alone is enough to evaluate it, differently if wanted.
    assert launch.main(["--mode=evaluate", f"--workdir={workdir}"]) == 0
    assert json.loads((workdir / "metrics.json").read_text()) == metrics
    more = ["--config.model.num_steps=3", "--config.eval.baselines=false"]
    assert launch.main(["--mode=evaluate", f"--workdir={workdir}", *more]) == 0
    assert json.loads((workdir / "metrics.json").read_text())["fg_ari"] != metrics["fg_ari"]

    # Another config does not get into this directory.
    assert launch.main([*command, "--config.seed=7"]) == 2
    assert "belongs to a run with config.seed=0, not 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to run: pass --config=configs/X.py"),
        (["--config=configs/nope.py"], "--config=configs/nope.py: no such file"),
        ([*TINY, "--config.num_step=3"], "no such field; did you mean num_steps?"),
        ([*TINY, "--config.num_steps=x"], "--config.num_steps=x"),
        ([*TINY, "--steps=3"], "--steps=3: no such option"),
        ([*TINY, "--config.eval.datasets=nope"], "'nope' is unknown"),
        ([*TINY, "--config.data.name=tetrominoes/nope"], "tetrominoes/nope"),
        (["--mode=evaluate", "--workdir=/nonexistent"], "has no config.json"),
        (["--config=x.py", "--workdir=/dev/null/run", "--mode=train"], "x.py: no such file"),
        ([*TINY, "--workdir=/dev/null/run"], "--workdir=/dev/null/run: cannot be made"),
        ([*TINY, "--config.data_dir=/dev/null/data"], "data_dir='/dev/null/data'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    if not any(argument.startswith("--workdir") for argument in arguments) and arguments:
        arguments = [*arguments, f"--workdir={tmp_path}"]
    if TINY[0] in arguments and not any("data_dir" in argument for argument in arguments):
        arguments = [*arguments, f"--config.data_dir={tmp_path / 'data'}"]
    assert launch.main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "config.json").exists()


def test_published_data_that_are_not_there(tmp_path):
    """As a user sees it: a process of its own, no traceback, where to get the file."""
    command = [
        sys.executable,
        "launch.py",
        "--config=configs/tetrominoes_akorn.py",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data_dir={tmp_path / 'data'}",
        f"--config.data.raw_dir={tmp_path}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(tmp_path) in line
    assert "tetrominoes_train.tfrecords" in line
    assert ":procedural" in line


def test_help_tells_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as stop:
        launch.main(["--help"])
    assert stop.value.code == 0
    assert "124" in capsys.readouterr().out
