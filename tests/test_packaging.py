"""The package can be installed: setuptools takes requirements, and nothing else pip would take."""

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import akorn_jax
import launch
from akorn_jax.runtime import extras

ROOT = Path(__file__).parents[1]
DYNAMIC = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
FILES = {"": DYNAMIC["dependencies"]["file"]} | {
    extra: entry["file"] for extra, entry in DYNAMIC["optional-dependencies"].items()
}


SOURCES = [ROOT / "launch.py", *(f for d in ("akorn_jax", "configs", "datasets")
           for f in sorted((ROOT / d).rglob("*.py")))]  # fmt: skip


def plain(package):
    """A package's name as PyPI compares it."""
    return package.lower().replace("_", "-")


def lines_of(file):
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [line for line in lines if line]


def requirements(extra):
    """By name; an extra of no name is the package itself."""
    found = [Requirement(line) for file in FILES[extra] for line in lines_of(file)]
    return {plain(requirement.name): requirement for requirement in found}


def imported(file):
    """The modules that a file imports, as it says them."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@pytest.mark.parametrize("extra", FILES)
def test_requirements_are_what_setuptools_reads(extra):
    assert requirements(extra)
    for requirement in requirements(extra).values():
        assert requirement.specifier, f"{requirement.name} has no tested range"


def test_a_package_has_one_range():
    ranges = {}
    for extra in FILES:
        for name, requirement in requirements(extra).items():
            assert ranges.setdefault(name, requirement.specifier) == requirement.specifier, name


def test_make_installs_all_that_setuptools_knows():
    """But for what needs an environment of its own, an account, or is for the tests."""
    nested = [line.removeprefix("-r ") for line in lines_of("requirements.txt")]
    left_out = {"requirements-beam.txt", "requirements-dev.txt", "requirements-train.txt"}
    assert set(nested) == {file for files in FILES.values() for file in files} - left_out


def test_what_is_imported_is_declared():
    declared = {name for extra in FILES if extra != "dev" for name in requirements(extra)}
    known = importlib.metadata.packages_distributions()
    ours = {"akorn_jax", "configs", "datasets"}
    for file in SOURCES:
        for module in imported(file):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in ours:
                continue
            packages = map(plain, known.get(top, [top]))
            assert declared.intersection(packages), f"{file.relative_to(ROOT)} imports {module}"


def test_extras_are_where_they_are_declared():
    for package, extra in extras.EXTRAS.values():
        assert package in requirements(extra)
        assert package in requirements("all")
        assert package not in requirements("")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("h5py", ["--mode=prepare", "--config=shapes3d_slate", "--config.data.raw_dir=raw"]),
        ("sklearn", ["--mode=prepare", "--config=digits_akorn"]),
        ("pycocotools", ["--mode=segment", "--config=demo", "--images=raw", "--out=out"]),
    ],
)
def test_a_missing_extra_is_one_line(module, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "3dshapes.h5").write_bytes(b"")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "akorn_jax.segment", raising=False)
    monkeypatch.delattr(akorn_jax, "segment", raising=False)
    assert launch.main([*arguments, "--config.data_dir=data"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    package, extra = extras.EXTRAS[module]
    assert line == f"error: {package} is not installed; pip install 'akorn-jax[{extra}]'"
    assert not (tmp_path / "out").exists()


def test_a_module_of_no_extra_is_not_explained_away():
    with pytest.raises(ModuleNotFoundError, match="torch"):
        extras.explain(ModuleNotFoundError("No module named 'torch'", name="torch"))


@pytest.mark.slow
def test_the_installed_command_runs_from_any_directory(tmp_path):
    """A wheel in an environment of its own, which borrows what it needs, without extras."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", tmp_path / "env"], check=True
    )
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    missing = f"import sys\nsys.modules.update(dict.fromkeys({list(extras.EXTRAS)}))\n"
    (site / "sitecustomize.py").write_text(missing)
    pip = [tmp_path / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    copy = tmp_path / "source"  # a build leaves files beside what it builds
    for name in ("akorn_jax", "configs", "datasets"):
        shutil.copytree(ROOT / name, copy / name)
    files = {file for group in FILES.values() for file in group}
    for name in ("launch.py", "setup.py", "pyproject.toml", "README.md", *files):
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
