"""Official weights in and out: bit for bit, or refused with everything that does not fit."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from etils import epath
from flax import nnx

import launch
from akorn_jax import run_config
from akorn_jax.convert import files, load_official, to_official
from akorn_jax.convert.__main__ import main
from akorn_jax.errors import UserError
from akorn_jax.models import akorn, itrconv
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
RECIPE = f"--config={ROOT}/configs/demo.py"
SMALL = [RECIPE, "--config.model.channels=8", "--config.model.num_steps=2"]


def small_model(seed=0):
    return akorn.Model(channels=8, num_steps=2, heads=2, autorescale=False, rngs=nnx.Rngs(seed))


@pytest.fixture
def weights():
    """A state dict of the small model, of numbers that are nobody's initial ones."""
    rng = np.random.default_rng(0)
    shapes = {name: array.shape for name, array in to_official(small_model()).items()}
    return {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}


def test_everything_that_does_not_fit_is_named_and_nothing_is_loaded(weights):
    model = small_model()
    before = to_official(model)
    weights["extra.weight"] = weights.pop("out.3.bias")
    weights["gamma"] = np.zeros((2, 2), np.float32)
    with pytest.raises(UserError) as error:
        load_official(model, weights)
    message = str(error.value)
    assert "missing out.3.bias" in message
    assert "unknown extra.weight" in message
    assert "misshapen gamma (2, 2), expected (1,)" in message
    assert "\n" not in message
    for name, array in to_official(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_model_without_official_weights():
    model = itrconv.Model(channels=8, kernel_size=3, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=r"itrconv has no official weights; known: "):
        to_official(model)


@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".pth"])
def test_a_round_trip_is_bit_exact(kind, weights, tmp_path, data_dir):
    if kind == ".pth":
        pytest.importorskip("torch", reason="reading and writing .pth needs PyTorch")
    averaged = {name: 2 * array for name, array in weights.items()}
    source, back = tmp_path / f"in{kind}", tmp_path / f"out{kind}"
    files.write(source, weights, averaged, step=7)
    workdir = tmp_path / "run"
    main([*SMALL, f"--weights={source}", f"--workdir={workdir}", "--step=7"])
    main(["--to=torch", f"--weights={back}", f"--workdir={workdir}"])
    for ours, official in zip(files.read(back), (weights, averaged), strict=True):
        assert ours.keys() == official.keys()
        for name, array in official.items():
            np.testing.assert_array_equal(ours[name], array)


def test_converted_weights_are_what_is_evaluated(weights, tmp_path, data_dir):
    source, workdir = tmp_path / "plain.npz", tmp_path / "run"
    np.savez(source, **weights)  # a plain state dict serves as its own average
    extra = [
        f"--config.data_dir={data_dir}",
        "--config.data.test=(0, 8)",
        "--config.data.max_records=128",
        "--config.eval.baselines=false",
        "--config.eval.num_workers=1",
    ]
    main([*SMALL, *extra, f"--weights={source}", f"--workdir={workdir}"])
    model = small_model(seed=1)
    graphdef, params, buffers = train_state.split(model)
    with Checkpoints(epath.Path(workdir) / "checkpoints") as checkpoints:
        restored = checkpoints.restore_latest({"ema": (params, buffers)}, partial=True)
    ours = to_official(nnx.merge(graphdef, *restored.state["ema"]))
    for name, array in weights.items():
        np.testing.assert_array_equal(ours[name], array)
    assert launch.main(["--mode=evaluate", f"--workdir={workdir}"]) == 0
    assert json.loads((workdir / "metrics.json").read_text())["num_images"] == 8


def test_torch_files_of_training_scripts(weights, tmp_path):
    torch = pytest.importorskip("torch", reason="reading .pth needs PyTorch")
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    torch.save({"model_state_dict": tensors, "epoch": 3}, tmp_path / "checkpoint.pth")
    torch.save(tensors, tmp_path / "model.pth")
    for name in ("checkpoint.pth", "model.pth"):
        online, averaged = files.read(tmp_path / name)
        assert online.keys() == averaged.keys() == weights.keys()
        np.testing.assert_array_equal(online["gamma"], weights["gamma"])


class Malicious:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_nothing_in_a_file_is_ever_run(tmp_path):
    torch = pytest.importorskip("torch", reason="reading .pth needs PyTorch")
    torch.save({"model_state_dict": Malicious(tmp_path / "owned")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil.pth: cannot be read"):
        files.read(tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", gamma=np.array([Malicious(tmp_path / "owned")], object))
    (tmp_path / "owned").unlink(missing_ok=True)  # pickling an array of objects does no harm
    with pytest.raises(UserError, match=r"evil.npz: cannot be read"):
        files.read(tmp_path / "evil.npz")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04 not really"])
def test_damaged_files_are_one_line(kind, content, tmp_path):
    if kind == ".pth":
        pytest.importorskip("torch", reason="reading .pth needs PyTorch")
    path = tmp_path / f"weights{kind}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as error:
        files.read(path)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        files.read(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"is not .pth, .safetensors, .npz"):
        files.read(tmp_path / "x.bin")


def test_without_pytorch_the_line_says_who_asked_and_what_else_will_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "x.pth"
    path.touch()
    expected = f"config.init_from.path={path}: .pth needs PyTorch, which is not installed;"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}"):
        files.read(path, "config.init_from.path")


def test_a_directory_of_another_run_is_left_alone(weights, tmp_path):
    safetensors.numpy.save_file(weights, tmp_path / "w.safetensors")
    command = [f"--weights={tmp_path / 'w.safetensors'}", f"--workdir={tmp_path}"]
    run_config.save(run_config.from_recipe(RECIPE.removeprefix("--config=")), epath.Path(tmp_path))
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    with pytest.raises(UserError, match=r"belongs to a run with config.model.channels=32, not 8"):
        main([*SMALL, *command])
    assert not list((tmp_path / "checkpoints" / "4").iterdir())
