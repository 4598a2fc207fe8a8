"""The package can be installed: setuptools takes requirements, and nothing else pip would take."""

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
