"""The panels of objects with boxes and of the scenes between two."""

import numpy as np
import pytest

from akorn_jax import evaluate
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import panels
from akorn_jax.report.panels import interpolation, objects, slots
from akorn_jax.training import train_state
from configs import dsprites_gnm
from tests.parity.tensors import filled
from tests.report.panels.test_slots import decode


class Examples:
    """Two scenes, the first with three objects, the second with none."""

    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    counts = np.array([3, 0])


def output():
    """Three cells on a background; the second one is empty."""
    masks = np.zeros((4, 16, 16), np.float32)
    masks[1, 2:6, 4:12] = 1
    masks[3, 8:10, 8:10] = 0.5
    masks[0] = 1 - masks[1:].sum(0)
    return ModelOutput(
        recon=np.zeros((16, 16, 3)),
        masks=masks,
        patches=np.stack([np.full((16, 16, 3), k / 4) for k in range(4)]),
        presence=np.array([0.75, 0.1, 0.875]),
        boxes=np.array([[2, 4, 6, 12], [0, 0, 16, 16], [8, 8, 10, 10]]) / 16,
    )


def test_objects_are_those_that_are_present():
    found = objects.render(None, {0: output(), 1: output()}, Examples)["found"]
    first = found[0]
    assert (first.index, first.num_found, first.num_objects) == (0, 2, 3)
    assert [o.presence for o in first.objects] == [0.875, 0.75]
    surest = first.objects[0]
    assert (surest.x, surest.y, surest.width, surest.height) == (0.5, 0.5, 0.125, 0.125)
    np.testing.assert_array_equal(decode(first.image), Examples.images[0])


def test_a_glimpse_is_what_is_drawn_in_the_box():
    small, wide = (decode(o.glimpse) for o in objects._scene(Examples, output(), 0).objects)
    assert small.shape == (64, 64, 4)
    assert (small == np.array([191, 191, 191, 128])).all()
    assert wide.shape == (32, 64, 4)
    assert (wide == np.array([64, 64, 64, 255])).all()


def test_a_box_without_pixels_has_no_glimpse():
    flat = ModelOutput(**{**vars(output()), "boxes": np.zeros((3, 4))})
    assert objects._scene(Examples, flat, 0).objects[0].glimpse is None


def test_parts_are_asked_for():
    assert objects.applies(output())
    assert not slots.applies(output())
    assert not interpolation.applies(output())
    assert not objects.applies(ModelOutput(masks=output().masks))


@pytest.fixture(scope="module")
def config(data_dir):
    """GNM on the shared scenes of 32 x 32 pixels."""
    config = dsprites_gnm.get_config("small,procedural")
    config.data.name = "tetrominoes/procedural"
    config.data_dir = str(data_dir)
    config.data.crop = (1, 1, 33, 33)
    config.data.size = None
    config.data.test = (0, 16)
    config.data.max_records = 128
    config.eval.batch_size = 8
    return config


def test_strips_lead_from_scene_to_scene(config):
    model = filled(lambda: train_state.build_model(config.model, 0))
    task = train_state.build("tasks", config.task)
    examples = evaluate.load(config)
    outputs = panels.outputs(model, task, examples, config, [3, 9])
    strips = {i: output.trajectory["interpolation"][0] for i, output in outputs.items()}
    np.testing.assert_allclose(strips[3], strips[9][::-1], atol=1e-5)
    assert np.abs(strips[3][0] - strips[3][-1]).max() > 1e-3
    rendered = interpolation.render(None, outputs, examples)
    assert rendered["count"] == panels.NUM_BETWEEN
    assert [(s["first"], s["last"]) for s in rendered["strips"]] == [(3, 9), (9, 3)]
    assert rendered["strips"][0]["last_image"] == rendered["strips"][1]["first_image"]
    strip = decode(rendered["strips"][0]["strip"])
    assert strip.shape == (32, 32 * panels.NUM_BETWEEN, 3)
    middle = np.clip(255 * strips[3][4], 0, 255)
    np.testing.assert_allclose(strip[:, 32 * 4 : 32 * 5], middle, atol=0.51)
    assert objects.applies(outputs[3])
