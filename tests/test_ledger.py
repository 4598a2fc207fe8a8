"""The ledger is what its script writes, and every cell has a source and a command that exists."""

import shlex
from pathlib import Path

import pytest

from akorn_jax import run_config
from benchmarks import ledger
from configs import published


@pytest.fixture(scope="module")
def lines():
    return list(ledger.lines())


def test_the_page_is_up_to_date():
    assert ledger.FILE.read_text() == ledger.render()


def test_every_published_row_is_there_once(lines):
    rows = sum(len(methods) for _, _, _, methods in published._TABLES)
    keys = {(line.protocol, line.entry["source"], line.entry["method"]) for line in lines}
    assert len(lines) == len(keys) == rows


def test_commands_run_the_method_that_the_line_is_about(lines):
    for line in lines:
        if not line.command:
            continue
        _, _, recipe, *flags = shlex.split(line.command)
        config = run_config.from_recipe(recipe.removeprefix("--config="))
        config = run_config.override(config, flags)
        datasets = {config.data.name, config.eval.datasets}
        assert line.entry["dataset"] in datasets
        assert ("up-tiling 4" in line.entry["method"]) == (config.eval.up_tiling == 4)


def test_links_lead_somewhere(lines):
    for line in lines:
        assert (ledger.FILE.parent / line.method.page).exists()
        parity = Path("tests/parity") / f"test_{line.method.parity}.py"
        assert not line.method.parity or (ledger.ROOT / parity).exists()
