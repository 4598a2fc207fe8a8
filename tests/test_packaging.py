"""The package can be installed: setuptools takes requirements, and nothing else pip would take."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DYNAMIC = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
FILES = {"": DYNAMIC["dependencies"]["file"]} | {
    extra: entry["file"] for extra, entry in DYNAMIC["optional-dependencies"].items()
}


@pytest.mark.parametrize("extra", FILES)
def test_requirements_are_what_setuptools_reads(extra):
    for file in FILES[extra]:
        lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
        requirements = [Requirement(line) for line in lines if line]
        assert requirements
        for requirement in requirements:
            assert requirement.specifier, f"{requirement.name} has no tested range"


@pytest.mark.slow
def test_the_installed_command_runs_from_any_directory(tmp_path):
    """A wheel in an environment of its own, which borrows the dependencies that are here."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", tmp_path / "env"], check=True
    )
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [tmp_path / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    copy = tmp_path / "source"  # a build leaves files beside what it builds
    for name in ("akorn_jax", "configs", "datasets"):
        shutil.copytree(ROOT / name, copy / name)
    requirements = [file for group in FILES.values() for file in group]
    for name in ("launch.py", "setup.py", "pyproject.toml", "README.md", *requirements):
        shutil.copy(ROOT / name, copy)
    subprocess.run([*pip, copy], check=True)
    away = tmp_path / "away"
    away.mkdir()
    command = [tmp_path / "env" / "bin" / "akorn-jax", "--config=demo", "--workdir=run"]
    tiny = {"num_steps": 4, "batch_size": 8, "model.channels": 8, "model.num_steps": 2}
    tiny |= {"data.max_records": 128, "data.train": "(32, 128)", "data.test": "(0, 8)"}
    tiny |= {"eval.batch_size": 8, "eval.baselines": "false"}
    flags = [f"--config.{name}={value}" for name, value in tiny.items()]
    done = subprocess.run(
        [*command, *flags], cwd=away, check=False, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (away / "run" / "report.html").exists()
    types = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c",
         "import akorn_jax; r = akorn_jax.load_run('run'); print(r.step, akorn_jax.__file__)"],
        cwd=away, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert types.startswith("4 ")
    assert str(tmp_path) in types, "the installed package, not the checkout"
