"""Weights of Slot Attention's repositories, as their training scripts leave them."""

from pathlib import Path

import numpy as np
import pytest

from akorn_jax import evaluate, run_config
from akorn_jax.convert import files, to_official
from akorn_jax.convert.__main__ import main
from akorn_jax.training import train_state

ROOT = Path(__file__).parents[2]
RECIPE = f"{ROOT}/configs/clevr6_slot_attention.py"
SIZES = {"image_size": 8, "channels": 4, "slot_size": 4, "hidden_size": 4, "num_layers": 2}
SMALL = [f"--config.model.{name}={value}" for name, value in SIZES.items()]


@pytest.mark.parametrize("prefix", ["model.", "module.", "model.module.", ""])
@pytest.mark.parametrize(("variant", "dialect"), [("", "torch_gru"), (":hhousen", "hhousen")])
def test_names_under_a_prefix(variant, dialect, prefix, tmp_path):
    """As in checkpoints of Lightning, in which the model is an attribute of another module."""
    config = run_config.override(run_config.from_recipe(RECIPE + variant), SMALL)
    model = train_state.build_model(config.model, seed=1)
    official = to_official(model, dialect)
    weights = tmp_path / "weights.npz"
    np.savez(weights, **{prefix + name: array for name, array in official.items()})
    run = tmp_path / "run"
    main([f"--config={RECIPE}{variant}", *SMALL, f"--weights={weights}", f"--workdir={run}"])
    loaded = evaluate.restore(config, run).model
    for name, array in to_official(loaded, dialect).items():
        np.testing.assert_array_equal(array, official[name])


def test_a_prefix_of_some_names_is_part_of_them(tmp_path):
    weights = tmp_path / "weights.npz"
    np.savez(weights, **{"model.a": np.zeros(1), "b": np.ones(1)})
    arrays, averaged = files.read(weights)
    assert arrays.keys() == averaged.keys() == {"model.a", "b"}


def test_checkpoints_of_lightning(tmp_path):
    torch = pytest.importorskip("torch", reason="reading .ckpt needs PyTorch")
    content = {"state_dict": {"model.x": torch.ones(2)}, "epoch": 3, "hyper_parameters": {"a": 1}}
    torch.save(content, tmp_path / "last.ckpt")
    arrays, _ = files.read(tmp_path / "last.ckpt")
    assert arrays.keys() == {"x"}
