"""GECO in the recipes of Efficient MORL: the published goal, and per pixel elsewhere."""

import pytest
from flax import nnx

from akorn_jax import run_config
from akorn_jax.training import train_state
from configs import clevr_efficient_morl, tetrominoes_efficient_morl


def check(config):
    model = nnx.eval_shape(lambda: train_state.build_model(config.model, 0))
    train_state.build("tasks", config.task).check(model, config.num_steps)


def test_the_published_goal_is_that_of_128_pixels():
    config = clevr_efficient_morl.get_config()
    assert config.task.geco.goal == -108_000
    assert config.model.image_size == 128
    changed = run_config.override(config, ["--config.model.image_size=64"])
    assert changed.task.geco.goal == -27_000


@pytest.mark.parametrize("recipe", [clevr_efficient_morl, tetrominoes_efficient_morl])
@pytest.mark.parametrize("variant", ["", "small,procedural"])
def test_goals_can_be_reached(recipe, variant, caplog):
    check(recipe.get_config(variant))
    assert not caplog.records


@pytest.mark.parametrize(
    ("argument", "goal", "least"),
    [("task.geco.goal=-9_000", -9000, -1768.39), ("model.std=0.5", -1688, -532.337)],
)
def test_a_goal_out_of_reach_is_warned_of_with_the_least_error(argument, goal, least, caplog):
    config = tetrominoes_efficient_morl.get_config("small,procedural")
    check(run_config.override(config, [f"--config.{argument}"]))
    (record,) = caplog.records
    expected = f"config.task.geco.goal={goal} is below {least}, the least 'nll_last' of an image"
    assert record.getMessage().startswith(expected)
    assert "give a larger goal, or a smaller config.model.std" in caplog.text
