"""GECO in the recipes of GENESIS-V2: the published settings, and a goal that cannot be reached."""

import numpy as np
import pytest

from akorn_jax.training import train_state
from configs import clevr_genesis_v2, clevrtex_genesis_v2


def test_geco_scales_with_the_number_of_pixels():
    geco = clevr_genesis_v2.get_config().task.geco
    np.testing.assert_allclose(geco.goal, 0.5655 * 3 * 128**2)
    np.testing.assert_allclose(geco.step_size, 2.5e-6)
    np.testing.assert_allclose(geco.minimum / (3 * 128**2), 0.5623, atol=5e-5)


@pytest.mark.parametrize("variant", ["", "small,procedural"])
def test_goals_can_be_reached_on_clevr(variant, caplog):
    train_state.build("tasks", clevr_genesis_v2.get_config(variant).task)
    assert not caplog.records


def test_the_published_goal_on_clevrtex_is_warned_of(caplog):
    train_state.build("tasks", clevrtex_genesis_v2.get_config().task)
    assert "the least error that the model can reach" in caplog.text
