"""Laws of grids of sprites; parity is in tests/parity/test_marionette.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.models import marionette

SMALL = {
    "image_size": 16,
    "grid_size": 4,
    "num_layers": 2,
    "num_sprites": 3,
    "code_size": 16,
    "background_code_size": 16,
}


def make(**fields):
    return marionette.Model(**{**SMALL, **fields}, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).random((2, 16, 16, 3), np.float32))


def test_canvases_lay_every_patch_around_its_cell(model):
    """Patch (i, j) of 8 pixels begins half a cell before cell (i, j) of 4."""
    patches = jnp.asarray(np.random.default_rng(0).random((1, 1, 4, 4, 8, 8, 2), np.float32))
    expected = np.zeros((4, 24, 24, 2))  # with a margin of one cell
    for group, (row, column) in enumerate(marionette.GROUPS):
        for i in range(row, 4, 2):
            for j in range(column, 4, 2):
                place = slice(4 * i + 2, 4 * i + 10), slice(4 * j + 2, 4 * j + 10)
                expected[group][place] += patches[0, 0, i, j]
    found = model.canvases(patches)[0, 0]
    np.testing.assert_allclose(found, expected[:, 4:20, 4:20], rtol=1e-6)


def test_regions_are_where_patches_lie(model):
    """A patch of ones covers its region, and regions of a group do not overlap."""
    regions = model.regions()
    assert regions.sum(1).max() == 1
    ones = jnp.ones((1, 1, 4, 4, 8, 8, 1))
    np.testing.assert_array_equal(regions.sum(1), model.canvases(ones)[0, 0, ..., 0])


def test_neighbourhoods_are_windows_of_the_padded_image(images):
    windows = marionette.neighbourhoods(images, 4)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for i, j in ((0, 0), (1, 3), (3, 2)):
        window = padded[:, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8]
        np.testing.assert_array_equal(windows[:, i, j], window)


def test_shifts_move_content_right_and_down():
    patches = jnp.zeros((8, 8, 4)).at[2, 3].set(1)
    moved = marionette.shifted(patches, jnp.array([0.25, 0.5]))  # of 4 pixels, half the side
    np.testing.assert_allclose(moved, jnp.zeros((8, 8, 4)).at[4, 4].set(1), atol=1e-6)


def test_parts_lie_in_the_masks_order(model):
    """Presence marks a cell's region: a cell alone shows where its mask is."""
    cells = jnp.zeros((1, 2, 4, 4, 1)).at[0, 1, 2, 1].set(5.0)
    order = jnp.array([2, 0, 3, 1])
    (index,) = np.flatnonzero(model.in_order(cells, order, background=0.0)[0, :, 0])
    alpha = model.canvases(jnp.zeros((1, 2, 4, 4, 8, 8, 1)).at[:, 1, 2, 1].set(0.5))[:, :, order]
    alpha = alpha.reshape(1, 8, 16, 16)
    parts = model.segments(jnp.zeros((1, 8, 16, 16, 3)), alpha, jnp.zeros((1, 16, 16, 3)), order)
    assert np.flatnonzero(parts["masks"][0].any((1, 2))).tolist() == [0, index]
    np.testing.assert_allclose(parts["masks"].sum(1), 1)


def test_training_needs_a_key(model, images):
    with pytest.raises(ValueError, match="pass key="):
        jax.eval_shape(lambda: model(images, train=True))


def test_hard_scenes_show_single_sprites(model, images):
    call = jax.jit(lambda hard: model(images, hard=hard))
    hard, soft = call(True), call(False)
    np.testing.assert_array_equal(np.unique(hard.presence), [0, 1])
    np.testing.assert_array_equal(hard.slots[:, 1:].max(-1), 1)
    np.testing.assert_array_equal(hard.slots[:, 1:].sum(-1), 1)
    np.testing.assert_array_equal(soft.slots.argmax(-1), hard.slots.argmax(-1))
    assert soft.slots.max() < 1
    for output in (hard, soft):
        composed = jnp.sum(output.masks[..., None] * output.patches, axis=1)
        np.testing.assert_allclose(composed, output.recon, atol=1e-5)


def test_the_density_vanishes_at_0_and_1():
    p = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(marionette.beta_density(p), [0, 1.5, 0], atol=1e-4)


def test_a_fixed_background(images):
    model = make(background_color=(0.2, 0.4, 0.6))
    output = jax.jit(model.__call__)(images)
    np.testing.assert_allclose(output.patches[:, 0], np.full((2, 16, 16, 3), (0.2, 0.4, 0.6)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 18}, "image_size=18 is not an even grid_size=4 cells"),
        ({"grid_size": 1}, "grid_size=1"),
        ({"image_size": 48, "grid_size": 6}, "image_size=48 is not a power of two"),
        ({"code_size": 12}, "code_size=12 is not a multiple of 8"),
        ({"presence_weights": (1.0,)}, "must have one number for each of num_layers=2"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: make(**fields))


def test_images_of_another_size_are_refused(model):
    with pytest.raises(ValueError, match="images are 8x8"):
        model(jnp.zeros((1, 8, 8, 3)))
