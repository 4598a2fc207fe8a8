"""A run of Slot Attention from its recipe: it trains, is evaluated by its masks, and keeps what its
normalisation has seen."""

import json

import pytest
from etils import epath

from akorn_jax import evaluate, train
from akorn_jax.errors import UserError
from configs import tetrominoes_slot_attention


@pytest.fixture
def config(tiny):
    """The recipe with batch norm, small enough for a test."""
    config = tetrominoes_slot_attention.get_config("batch_norm,procedural")
    config.data, config.data_dir, config.mesh, config.eval = (
        tiny.data, tiny.data_dir, tiny.mesh, tiny.eval,
    )  # fmt: skip
    config.data.size = 8
    config.model.update(image_size=8, channels=4, slot_size=4, hidden_size=4, num_layers=1)
    config.batch_size, config.num_steps, config.checkpoint_every = 8, 3, 3
    config.eval.baselines = False
    return config


def test_masks_and_reconstruction_are_scored(config, tmp_path):
    workdir = epath.Path(tmp_path)
    train.train(config, workdir)
    config.eval.options.update(num_slots=6, num_iterations=1)
    summary = evaluate.evaluate(config, workdir)
    assert json.loads((workdir / "metrics.json").read_text()) == summary
    made = {"step": 3, "num_images": 16, "options": {"num_slots": 6, "num_iterations": 1}}
    assert made == {name: summary[name] for name in made}
    assert -1 <= summary["fg_ari"] <= 1
    assert 0 < summary["mse"] < 1
    model = evaluate.restore(config, workdir).model
    assert model.slot_attention.norm_updates.mean[...] != 0, "statistics travel with the weights"
    config.eval.up_tiling = 2
    with pytest.raises(UserError, match=r"up_tiling=2: .* has no patches"):
        evaluate.evaluate(config, workdir)


def test_images_of_another_size(config, tmp_path):
    config.model.image_size = 16
    with pytest.raises(UserError, match=r"set config\.model\.image_size to what the data has"):
        train.train(config, epath.Path(tmp_path))
