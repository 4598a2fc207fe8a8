"""The pieces of SPACE and SPAIR, one by one, against tensors of the reference implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.layers.count_prior import count_prior, geometric_prior
from akorn_jax.layers.masks import stick_breaking
from akorn_jax.layers.spatial_transformer import corners
from akorn_jax.models import space, spair
from akorn_jax.optimizer import schedules
from configs import clevr_spair, clevrtex_spair
from configs.families import space as space_recipes
from configs.families import spair as spair_recipes
from tests.parity.tensors import files, last, read, relative

ANCHOR, CELL, SIZE = 48, 32, 128  # pixels


@pytest.fixture(scope="module")
def arrays():
    (path,) = files("components", "components.npz")
    return read(path)


def test_stick_breaking(arrays):
    shares = arrays["in/sbp"]  # [B, K, 1, H, W]; the last one is not looked at
    logits = np.log(shares) - np.log1p(-shares)
    masks = jnp.exp(stick_breaking(logits[:, :-1]))
    assert relative(masks, arrays["space/sbp"]) < 1e-5


def test_frame(arrays):
    """A box as large as the image shows the frame at its own resolution, upscaled or not."""
    whole = np.float32([[[1, 1, 0, 0]]])
    one = np.ones((1, 1, 1), np.float32)
    frame = space.draw_frames(whole, one, space.GLIMPSE, space.GLIMPSE)
    np.testing.assert_allclose(
        frame[0] / space.GLIMPSE**2, arrays["space/boundary_kernel"], atol=1e-8
    )


def test_to_box(arrays):
    for i, cell in enumerate(arrays["in/spair_cell_wh"]):
        local, box = spair.to_box(arrays["in/spair_z_where"], cell, ANCHOR / SIZE, SIZE // CELL)
        assert relative(local, arrays["spair/box"][i]) < 1e-6
        assert relative(box, arrays["spair/where"][i]) < 1e-6


def test_corners(arrays):
    """As pixels (x0, y0, x1, y1), and clipped."""
    height, width = arrays["in/image"].shape[2:]
    boxes = np.asarray(corners(arrays["in/z_where"]))[:, [1, 0, 3, 2]]
    boxes = boxes * [width, height, width, height]
    np.testing.assert_allclose(boxes, arrays["spair/bbox"], rtol=1e-5, atol=1e-4)


def test_count_prior(arrays):
    """Until the reference loses the belief in many objects, which is no normal float32 number.

    What is right there is in tests/models/test_spair.py.
    """
    expected = arrays["spair/pres_prior_probs"]  # [p, sequence, cell]
    presence = arrays["in/spair_pres"]  # [sequence, cell]
    S, N = presence.shape

    @jax.jit
    def probabilities(p):
        def step(carry, inputs):
            count, log_prior = carry
            i, present = inputs
            prior, log_prior = count_prior(log_prior, count, present[:, None], N - i)
            return (count + present[:, None], log_prior), prior[:, 0]

        carry = (jnp.zeros((S, 1)), geometric_prior(p, S, N))
        return jax.lax.scan(step, carry, (jnp.arange(N), jnp.round(presence.T)))[1].T

    compared = 0
    for p, official in zip(arrays["in/spair_prior_p"], expected, strict=True):
        alive = official > 1.001e-6
        rtol = 2e-5 if p > 1e-3 else 3e-2
        np.testing.assert_allclose(probabilities(p)[alive], official[alive], rtol=rtol)
        compared += alive.sum()
    assert compared > 0.75 * expected.size


def test_average(arrays):
    image = spair.average(
        last(arrays["in/render_objects"]),
        last(arrays["in/render_masks"]),
        arrays["in/render_depth"][..., None, None],
        last(arrays["in/render_bg"])[:, None],
    )
    assert relative(image, last(arrays["spair/render"])) < 1e-6


def at_steps(spec, arrays):
    return [schedules.make(spec)(step) for step in arrays["in/schedule_steps"]]


@pytest.mark.parametrize(
    ("column", "spec"),
    [
        ("prior_z_pres_prob", space_recipes.PRESENCE_PRIOR),
        ("prior_scale_mean", space_recipes.SCALE_PRIOR),
    ],
)
def test_schedules_of_space(arrays, column, spec):
    (i,) = np.flatnonzero(arrays["space/schedule_columns"] == column)
    np.testing.assert_allclose(at_steps(spec, arrays), arrays["space/schedule"][:, i], rtol=1e-5)


@pytest.mark.parametrize(
    ("column", "recipe", "option"),
    [
        ("itr_lin(10000,1e-4,.99)", clevr_spair, "presence_prior"),
        ("itr_lin(50000,1e-4,.99)", clevrtex_spair, "presence_prior"),
        ("itr_lin(50000,0.5,0.15)", clevrtex_spair, "sigma"),
        ("2.7", None, None),
    ],
)
def test_schedules_of_spair(arrays, column, recipe, option):
    (i,) = np.flatnonzero(arrays["spair/schedule_columns"] == column)
    spec = recipe.get_config().task.options[option].to_dict() if recipe else spair_recipes.BETA
    np.testing.assert_allclose(at_steps(spec, arrays), arrays["spair/schedule"][:, i], rtol=1e-5)
