"""The ClevrTex benchmark trains by the right protocols and prints the paper's table."""

import json
import re

import pytest
from etils import epath

from akorn_jax import run_config
from benchmarks import clevrtex
from benchmarks.arena import processes
from configs import protocols


def options(*arguments):
    return clevrtex.parse(list(arguments))[0]


def test_systems_are_those_that_have_a_recipe():
    assert {"akorn", "slot_attention", "monet", "gnm", "vit"} <= set(clevrtex.SYSTEMS)
    assert options().systems == clevrtex.SYSTEMS


@pytest.mark.parametrize("system", ["akorn", "monet"])
def test_recipes_are_made_smaller_in_all_their_parts(system):
    small = options("--procedural", "--size=32", "--scenes=100", "--steps=50")
    config = clevrtex.recipe(system, "clevrtex", small, ["--config.batch_size=4"])
    assert config.data.name == "clevrtex_like/full"
    assert (config.data.size, config.num_steps, config.batch_size) == (32, 50, 4)
    sizes = re.findall(r"'image_size': (\d+)", str(config.model.to_dict()))
    assert set(sizes) == {"32"}
    parts = [config.data[part] for part in ("test", "validation", "train")]
    assert parts == [(0, 10), (10, 20), (20, 100)]
    assert config.data.max_records == 100


@pytest.mark.parametrize("system", clevrtex.SYSTEMS)
def test_every_system_has_both_trainings_by_the_benchmarks_protocol(system):
    for trained_on, key in clevrtex.PROTOCOLS.items():
        config = clevrtex.recipe(system, trained_on, options(), [])
        expected = protocols.protocol(key, procedural=False)
        for name in ("name", "crop", "train", "validation", "test", "max_objects"):
            assert config.data[name] == expected[name]


def test_systems_without_a_recipe_for_clevr_by_that_protocol_take_that_for_clevrtex():
    akorn = clevrtex.recipe("akorn", "clevr", options(), [])  # whose own is CLEVR6
    assert akorn.model == clevrtex.recipe("akorn", "clevrtex", options(), []).model
    assert clevrtex.recipe("monet", "clevr", options(), []).model.image_size == 128


@pytest.fixture
def done(tmp_path):
    """Two seeds of MONet on full, tested on three sets, and one that failed on CLEVR."""
    config = clevrtex.recipe("monet", "clevrtex", options("--size=32"), [])
    for seed, score in enumerate((0.4, 0.6)):
        workdir = tmp_path / "clevrtex" / "monet" / f"seed{seed}"
        run_config.save(config, epath.Path(workdir))
        for name in ("full", "outd", "camo"):
            file = "metrics.json" if name == "full" else f"metrics-clevrtex-{name}.json"
            summary = {"dataset": f"clevrtex/{name}", "fg_ari": score, "mse": 0.01}
            (workdir / file).write_text(json.dumps(summary | {"miou_clevrtex": None}))
        (workdir / processes.OUTCOME).write_text('{"failed": "", "megabytes": 1}')
    failed = tmp_path / "clevr" / "monet" / "seed0"
    failed.mkdir(parents=True)
    (failed / processes.OUTCOME).write_text('{"failed": "killed by SIGKILL", "megabytes": null}')
    return tmp_path


def test_the_table_has_the_papers_columns_over_seeds(done):
    chosen = options(f"--out={done}", "--systems=monet", "--seeds=2")
    clevrtex.write(chosen)
    text = (done / "clevrtex.md").read_text()
    head, _, row = text.splitlines()[:3]
    assert head.count("FG-ARI") == head.count("mIoU") == head.count("MSE") == 4
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "monet"
    assert cells[1:4] == ["", "", ""]  # CLEVR failed
    mse = f"{0.01 * 3 * 32**2:.2f} ± 0.00"
    assert cells[4:] == ["50.00 ± 14.14", "", mse] * 3
    assert "Failed: monet, clevr, seed 0: killed by SIGKILL." in text


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--systems=monett", "--systems=monett: is unknown; there are akorn, "),
        ("--scenes=5", "--scenes=5: give 10 or more"),
        ("--fast", "--fast: no such option"),
    ],
)
def test_wrong_options_are_one_line(argument, message, capsys):
    assert clevrtex.main([argument]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
