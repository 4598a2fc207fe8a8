"""The benchmarks count what papers count, run at the smallest size and write their figures."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from akorn_jax import run_config
from akorn_jax.errors import UserError
from akorn_jax.training import train_state
from benchmarks import (
    convolutions,
    devices,
    evaluation,
    flops,
    gabor,
    input,
    official,
    parts,
    prepare,
    profile,
    rendering,
    scaling,
    step,
    step_table,
    throughput,
    train_step,
)
from tests.xla_flags import QUICK

ROOT = Path(__file__).parents[1]
SMALL = ("--config.model.channels=8", "--config.model.num_steps=2")


# Products of one training step on one image, by hand: 3 times the forward pass, less the gradient
# of the image. (The contrastive loss of two pairs is a few thousandths of one.)
MEGAFLOPS = {
    "tetrominoes_akorn.py": 279.2,
    "tetrominoes_akorn.py:conv": 1285.8,
    "tetrominoes_itrsa.py": 279.2,
    "dsprites_akorn.py": 1718.4,
    "dsprites_akorn.py:conv": 9972.7,
    "clevr_akorn.py": 5288.0,
    "clevrtex_akorn.py:l2": 10522.5,
    "clevrtex_akorn.py:large": 35546.7,
}


@pytest.mark.parametrize("recipe", MEGAFLOPS)
def test_model_flops_are_those_counted_by_hand(recipe):
    config = step.recipe(f"configs/{recipe}", images=None)
    if "remat" in config.model:
        config.model.remat = True  # what is computed again does not count
    assert step.model_flops(config) / 1e6 == pytest.approx(MEGAFLOPS[recipe], rel=2e-4)


def test_a_loop_counts_with_its_trips():
    import jax.numpy as jnp

    def loop(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=5)[0]

    x, w = jnp.ones((2, 3)), jnp.ones((3, 3))
    assert flops.count(loop, x, w) == 5 * 2 * 2 * 3 * 3
    assert flops.count(jax.jit(loop), x, w) == 5 * 2 * 2 * 3 * 3


def test_train_step(tmp_path, capsys):
    path = tmp_path / "deep" / "train_step.json"
    options = ["--recipes", "configs/demo.py", "--images=16", "--rounds=2", f"--output={path}"]
    train_step.main([*options, *SMALL])
    written = json.loads(path.read_text())
    assert {"device", "cores", "load", "jax"} <= written["machine"].keys()
    (result,) = written["results"]
    assert result["images_per_second"] == pytest.approx(16 / result["step_seconds"])
    assert len(result["seconds"]["given views"]) == 2
    for name in ("temp_megabytes", "compile_seconds", "flops_per_second", "share_of_peak"):
        assert result[name] > 0
    assert "configs/demo.py | " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--patch_size=5", "--patch_size=5: must divide images of 32 x 32 pixels."),
        ("--patch_size=0", "--patch_size=0: must divide images of 32 x 32 pixels."),
        ("--recipe=configs/none.py", "configs/none.py"),
    ],
)
def test_gabor_refuses_in_one_line(option, message, data_dir, tiny, monkeypatch, capsys):
    monkeypatch.setattr(gabor.run_config, "from_recipe", recipe_or(tiny))
    assert gabor.main([option, f"--data_dir={data_dir}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def recipe_or(config):
    """`from_recipe` that gives a small config for the recipe that is there."""
    load = run_config.from_recipe
    return lambda path: load(path) if "none" in path else config


def test_gabor_energies_tell_stripes_from_rows():
    y, x = np.mgrid[:32, :64]
    stripes = np.where(x < 32, x, y) % 4 < 2
    images = np.repeat(255 * stripes[None, ..., None], 3, -1).astype(np.uint8)
    tokens = gabor.energies(images, 8)
    assert tokens.shape[:3] == (1, 4, 8)
    np.testing.assert_allclose(tokens.sum(-1), 1, rtol=1e-6)
    for cluster in gabor.CLUSTERINGS.values():
        labels = cluster(tokens.reshape(32, -1), 2).reshape(4, 8)
        assert (labels[:, :4] == labels[0, 0]).all()
        assert (labels[:, 4:] == labels[0, 7]).all()
        assert labels[0, 0] != labels[0, 7]


def test_convolutions(tmp_path, capsys):
    output = tmp_path / "convolutions.json"
    convolutions.main(["--tiny", "--rounds=1", f"--output={output}"])
    (result,) = json.loads(output.read_text())["results"]
    names = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == list(result["milliseconds"])
    assert min(result["milliseconds"].values()) > 0


def test_profile(tmp_path, capsys):
    path = tmp_path / "profile.json"
    options = ["--recipe=configs/demo.py", "--images=16", f"--output={path}"]
    profile.main([*options, *SMALL])
    work = json.loads(path.read_text())["work"]
    products = {row["part"] for row in work if row["kind"].startswith("product")}
    assert products >= {"forward", "again", "backward"}
    assert all(row["milliseconds"] > 0 for row in work)
    assert "ms | share | pass | kind" in capsys.readouterr().out


def test_a_profile_knows_work_by_its_name_in_the_program():
    program = """
  %dot.1 = f32[4] dot(%a, %b), metadata={op_name="jit(f)/jvp()/bij,bjd->bid/dot_general"}
  ROOT %exp = f32[4] fusion(%a), metadata={op_name="jit(f)/transpose(jvp())/while/body/exp"}
  %exp.2 = f32[4] fusion(%a), metadata={op_name="jit(f)/transpose(jvp())/rematted_computation/exp"}
  %while.3 = (f32[4]{0}, (f32[])) while(%t), body=%b, metadata={op_name="jit(f)/jvp()/while"}
  %copy = f32[4]{0} copy(%a)
  %dot.4 = f32[4]{0} dot(%a, %b), metadata={op_name="jit(f)/transpose(jvp())/transpose"}
"""
    assert profile.works(program) == {
        "dot.1": ("forward", "product bij,bjd->bid"),
        "exp": ("backward", "exp"),
        "exp.2": ("again", "exp"),
        "copy": ("update", "copy"),
        "dot.4": ("backward", "product"),
    }


def test_a_batch_must_be_made_of_whole_scenes():
    with pytest.raises(UserError, match="--images=7: is not divisible by the 2 views"):
        step.recipe("configs/demo.py", 7)


def test_parts_are_compared_with_pytorch_or_not_at_all(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(UserError, match="needs PyTorch"):
        parts.main([])


def test_a_baseline_must_be_a_clone(tmp_path):
    with pytest.raises(UserError, match="is no clone of an official repository"):
        official.Official([str(tmp_path)])


@pytest.mark.parametrize("name", official.names())
def test_every_official_code_has_its_entry(name):
    entry = official.entry(name)
    assert entry.REPOSITORY.startswith("github.com/")
    assert entry.MARKER.endswith(".py")
    assert set(entry.VARIANTS) <= set(official.VARIANTS)
    assert callable(entry.build)


def test_the_baseline_is_chosen_by_system(tmp_path, monkeypatch):
    monkeypatch.setattr(official, "imported", lambda module: None)  # no PyTorch in this environment
    marker = tmp_path / official.entry("monet").MARKER
    marker.parent.mkdir(parents=True)
    marker.touch()
    clones = official.Official([str(tmp_path)])
    assert clones.variants(step.recipe("configs/clevr_monet.py", 4)) == official.VARIANTS
    assert clones.variants(step.recipe("configs/demo.py", 4)) == ()  # its code is in another clone
    assert clones.variants(step.recipe("configs/clevr_itrconv.py", 4)) == ()


def test_clones_may_have_modules_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("slate", "agglomerator"):
        marker = tmp_path / name / official.entry(name).MARKER
        marker.parent.mkdir(parents=True)
        marker.touch()
        (marker.parent / "of_two_clones.py").write_text(f"system = {name!r}")
    with monkeypatch.context() as patched:
        patched.setattr(official, "imported", lambda module: None)  # no PyTorch here
        clones = official.Official([str(tmp_path / "slate"), str(tmp_path / "agglomerator")])
    for name in ("slate", "agglomerator", "slate"):
        clones.enter(name)
        assert official.imported("of_two_clones").system == name
    del sys.modules["of_two_clones"]


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        ("cifar10_agglomerator.py:classify", "task.name='classification'"),
        ("imagenet_agglomerator.py", "model.head_pool=8"),
        ("digits_agglomerator.py", "model.downsample=2"),
        ("movi_c_dinosaur.py:features", "task.inputs='features'"),
        ("movi_c_dinosaur.py:implicit", "model.gradient='implicit'"),
        ("movi_c_dinosaur.py:small", "model.encoder.image_size=64"),
        ("tetrominoes_dinosaur.py", "model.encoder.name='akorn'"),
    ],
)
def test_official_code_is_not_compared_with_what_it_does_not_do(recipe, field):
    config = step.recipe(f"configs/{recipe}", 4)
    with pytest.raises(UserError, match=f"config.{field}; the official code has"):
        official.entry(config.model.name).build(config, 4)


@pytest.mark.parametrize("recipe", ["cifar10_agglomerator.py", "movi_c_dinosaur.py:vit_s8"])
def test_published_recipes_are_what_the_official_code_does(recipe, monkeypatch):
    config = step.recipe(f"configs/{recipe}", 4)
    monkeypatch.setitem(sys.modules, "torch", None)  # as if nothing of it were installed
    with pytest.raises(UserError, match="install what the official code needs"):
        official.entry(config.model.name).build(config, 4)


@pytest.mark.parametrize("recipe", ["cifar100_agglomerator.py", "movi_c_dinosaur.py"])
def test_scenes_are_what_a_task_reads(recipe):
    config = step.recipe(f"configs/{recipe}", 8)
    task = train_state.build("tasks", config.task)
    scenes = step.scenes(config, task, 3)
    assert scenes.keys() == set(task.fields)
    assert scenes["image"].shape == (3, *run_config.input_size(config), 3)
    if "label" in scenes:
        assert scenes["label"].shape == (3,)
        assert ((scenes["label"] >= 0) & (scenes["label"] < config.model.num_classes)).all()


def test_scenes_are_images_and_classes_at_most():
    config = step.recipe("configs/sudoku_akorn.py", 4)
    with pytest.raises(UserError, match="it takes other things than images and classes"):
        step.scenes(config, train_state.build("tasks", config.task), 4)


@pytest.mark.slow
def test_throughput(tmp_path, data_dir):
    path = tmp_path / "throughput.json"
    options = ["--recipes", "configs/demo.py", "--images=16", "--scenes=128", "--interval=2"]
    options += ["--rounds=2", f"--data_dir={data_dir}", f"--output={path}"]
    throughput.main([*options, *SMALL, "--config.steps_per_call=2"])
    (result,) = json.loads(path.read_text())["results"]
    assert len(result["intervals"]) == 2
    assert min(result["intervals"]) > 0
    assert result["limits"].keys() == {"products"}  # what a CPU's memory allows is not known


@pytest.mark.slow
def test_devices_share_the_work_and_change_nothing(tmp_path):
    path = tmp_path / "devices.json"
    devices.main(["--recipe=configs/demo.py", "--images=32", f"--output={path}", *SMALL])
    results = json.loads(path.read_text())["results"]
    assert [r["devices"] for r in results] == [1, 2, 4, 8]
    for r in results:
        assert r["losses"] == pytest.approx(results[0]["losses"], rel=1e-5)
    assert results[-1]["temp_megabytes"] < results[0]["temp_megabytes"] / 4


def test_scaling_draws_what_it_measured(tmp_path):
    parts = scaling.parts("configs/demo.py", 16, 1, SMALL)
    assert parts["whole"] > 0
    points = [{"x": x, "temp_megabytes": x, "milliseconds": 1.0} for x in (1, 2, 4)]
    result = {
        "images": 16,
        "parts": {"demo": parts},
        "growth": {axis: dict.fromkeys(scaling.GROWING, points) for axis in scaling.AXES},
        "devices": [{"devices": n, "flops": 8 / n, "temp_megabytes": 9 / n} for n in (1, 2)],
    }
    (tmp_path / "scaling.json").write_text(json.dumps(result))
    figure = tmp_path / "figure.svg"
    scaling.main([f"--draw={tmp_path}/scaling.json", f"--figure={figure}"])
    assert "What a step is made of" in figure.read_text()


def test_evaluation(tmp_path):
    path = tmp_path / "evaluation.json"
    options = ["--images=1", "--rounds=1", "--channels=4", "--clusters=5", "--workers=1"]
    evaluation.main([*options, f"--output={path}"])
    written = json.loads(path.read_text())
    assert written["same_partitions"] == 1
    assert len(written["ratio"]) == 1


def test_input(tmp_path, data_dir):
    path = tmp_path / "input.json"
    protocol = ["--config.data.max_records=128", "--config.data.train=(32,128)"]
    options = ["--steps=2", "--rounds=1", "--workers=1", f"--config.data_dir={data_dir}"]
    input.main([*options, *protocol, "--config.batch_size=8", f"--output={path}"])
    rates = json.loads(path.read_text())["scenes_per_second"]
    assert rates.keys() == {"resident", "stream, threads", "stream, 1 processes"}


@pytest.mark.slow
def test_rendering(tmp_path):
    path = tmp_path / "rendering.json"
    rendering.main(["--scenes=1", "--repeats=1", f"--output={path}"])
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 8
    assert all(row["wall_ms"] > 0 for row in rows)


def test_prepare(tmp_path):
    path = tmp_path / "prepare.json"
    cores = os.sched_getaffinity(0)
    prepare.main(["--tetrominoes=20", "--clevr=2", "--rounds=1", f"--output={path}"])
    assert os.sched_getaffinity(0) == cores, "what comes after runs on all cores again"
    results = json.loads(path.read_text())["results"]
    assert [(r["set"], r["records"]) for r in results] == [
        ("tetrominoes", 20),
        ("clevr_with_masks", 2),
    ]
    for result in results:
        (seconds,) = result["rounds"]
        assert seconds.keys() == {"gunzip", "read", "prepare"}
        assert all(s["cpu"] >= 0 and s["wall"] > 0 for s in seconds.values())


def gpu_script(directory, **environment):
    """Runs `benchmarks/gpu.sh` at tiny sizes on one device of the CPU."""
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", directory],
        env=os.environ | {"DRY": "1", "PYTHON": sys.executable, "XLA_FLAGS": QUICK} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_gpu_script_leaves_json_of_every_part(tmp_path):
    ran = gpu_script(tmp_path)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    measured = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    steps = {name: run["results"] for name, run in measured.items() if "results" in run}
    assert measured.keys() - steps.keys() == {"input", "evaluation"}
    assert [r["dtype"] for r in steps["akorn_bfloat16"]] == 3 * ["bfloat16"]
    systems = {result["system"] for name in steps.keys() - {"throughput"} for result in steps[name]}
    assert systems >= {"akorn", "itrsa", *official.names()}
    assert all(run["machine"]["device"] == "cpu" for run in measured.values())


def test_gpu_script_ends_in_time_and_says_what_it_lacks(tmp_path):
    stuck = tmp_path / "python"
    stuck.write_text("#!/bin/sh\nsleep 60\n")
    stuck.chmod(0o755)
    started = time.monotonic()
    ran = gpu_script(tmp_path / "out", PYTHON=str(stuck), BUDGET="5", SLOWER="1")
    assert time.monotonic() - started < 40  # the stuck one would take 60
    assert ran.returncode == 1
    assert "akorn_float32 (exit status 124)" in ran.stderr
    assert "throughput (no time left)" in ran.stderr


def test_a_recipe_that_the_device_cannot_run_leaves_the_others(tmp_path, monkeypatch, capsys):
    def compiled(training):
        if training.config.model.connectivity == "conv":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return {"compile_seconds": 1.0, "temp_megabytes": 1.0}

    monkeypatch.setattr(step.Training, "compile", compiled)
    path = tmp_path / "train_step.json"
    recipes = ["--recipes", "configs/demo.py:conv", "configs/demo.py"]
    sizes = ["--images=16", "--rounds=1", f"--output={path}", *SMALL]
    assert train_step.main([*recipes, *sizes]) == 1
    failed, measured = json.loads(path.read_text())["results"]
    assert "out of memory" in failed["error"]
    assert measured["images"] == 16
    table = step_table.table([path])
    assert "RESOURCE_EXHAUSTED: out of memory" in table
    cores = len(os.sched_getaffinity(0))
    assert f"| akorn | `demo.py` | float32 | {cores} | 16 |" in table


def test_the_table_says_why_a_ratio_is_missing():
    measured = {
        "recipe": "configs/clevr_gnm.py",
        "system": "gnm",
        "dtype": "float32",
        "images": 4,
        "parameters": 8,
        "temp_megabytes": 1.0,
        "compile_seconds": 1.0,
        "step_seconds": 1.0,
        "images_per_second": 4.0,
        "ratios": {},
    }
    machine = {"cores": 2}
    assert step_table.cells(measured, machine)[-3:] == ("not measured", "cannot", "not measured")
    failed = measured | {"failed": {"compile": "InductorError: no"}}
    assert step_table.cells(failed, machine)[-1] == "cannot"
    unknown = measured | {"system": "itrconv"}
    assert step_table.cells(unknown, machine)[-3:] == 3 * ("not compared",)
    ratio = {"eager": {"median": 1.5, "min": 1.0, "max": 2.0}}
    assert step_table.cells(measured | {"ratios": ratio}, machine)[-3] == "1.50 (1.00 to 2.00)"


def test_the_published_batch_is_the_recipes():
    config = step.recipe("configs/clevr_space.py", train_step.images("published"))
    assert config.batch_size == 16
