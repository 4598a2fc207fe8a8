"""GECO in the recipes of GENESIS-V2: the published settings, and a goal that cannot be reached."""

import jax
import numpy as np
import pytest
from flax import nnx

from akorn_jax import run_config
from akorn_jax.models import genesis_v2
from akorn_jax.training import train_state
from configs import clevr_genesis_v2, clevrtex_genesis_v2


def check(config):
    model = nnx.eval_shape(lambda: train_state.build_model(config.model, 0))
    train_state.build("tasks", config.task).check(model, config.num_steps)


@pytest.mark.parametrize(("size", "step_size"), [(128, 2.5e-6), (64, 1e-5)])
def test_geco_scales_with_the_number_of_pixels(size, step_size):
    config = clevr_genesis_v2.get_config()
    geco = run_config.override(config, [f"--config.model.image_size={size}"]).task.geco
    np.testing.assert_allclose(geco.goal, 0.5655 * 3 * size**2)
    np.testing.assert_allclose(geco.step_size, step_size)


def test_the_least_error_is_that_of_the_image_itself():
    model = genesis_v2.Model(image_size=32, features=8, std=0.3, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    perfect = genesis_v2.mixture_log_prob(images[:, None], np.zeros((1, 1, 1, 1, 1)), images, 0.3)
    np.testing.assert_allclose(model.least_terms["nll"], -perfect.sum(), rtol=1e-5)


def test_the_published_goal_can_be_reached_on_clevr(caplog):
    check(clevr_genesis_v2.get_config())
    assert not caplog.records


def test_the_published_goal_on_clevrtex_is_warned_of(caplog):
    check(clevrtex_genesis_v2.get_config())
    assert (
        "config.task.geco.goal=24576 is below 27636.4, the least 'nll' of an image" in caplog.text
    )


def test_a_smaller_deviation_brings_the_published_goal_into_reach(caplog):
    config = clevrtex_genesis_v2.get_config()
    check(run_config.override(config, ["--config.model.std=0.6"]))
    assert not caplog.records
