"""GECO in the recipes of Efficient MORL: the published goal, and per pixel elsewhere."""

import pytest

from akorn_jax.training import train_state
from configs import clevr_efficient_morl, tetrominoes_efficient_morl


def test_the_published_goal_is_that_of_128_pixels():
    assert clevr_efficient_morl.get_config().task.geco.goal == -108_000


@pytest.mark.parametrize("recipe", [clevr_efficient_morl, tetrominoes_efficient_morl])
@pytest.mark.parametrize("variant", ["", "small,procedural"])
def test_goals_can_be_reached(recipe, variant, caplog):
    train_state.build("tasks", recipe.get_config(variant).task)
    assert not caplog.records


def test_a_goal_out_of_reach_is_warned_of_with_the_minimum(caplog):
    config = tetrominoes_efficient_morl.get_config("small,procedural")
    config.task.geco.goal = -9_000
    train_state.build("tasks", config.task)
    assert "goal -9000 is below -1768.39, the least error that the model can reach" in caplog.text
