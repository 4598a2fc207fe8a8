import base64
import io

import numpy as np
from PIL import Image

from akorn_jax import evaluate
from akorn_jax import state as states
from akorn_jax.report import slots


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_pictures_are_those_of_the_evaluation(slots_config):
    examples = evaluate.load(slots_config)
    model = states.build_model(slots_config.model, 0)
    indices = [13, 2]  # of two batches
    drawn = slots.draw(model, slots_config, examples, indices)
    labels = evaluate.discovery.segment(model, examples, slots_config).labels
    assert [scene.index for scene in drawn] == indices
    for scene in drawn:
        opacity = np.stack([decode(picture)[..., 3] for picture in scene.masked]).astype(float)
        assert np.abs(opacity.sum(0) - 255).max() <= len(opacity)  # shares of every pixel
        chosen = np.take_along_axis(opacity, labels[scene.index][None], axis=0)[0]
        assert (chosen >= opacity.max(0) - 1).all()  # the label's mask is the largest
        error = np.abs(decode(scene.recon).astype(float) - examples.images[scene.index]).mean()
        assert np.isclose(scene.error, error / 255)
        np.testing.assert_array_equal(decode(scene.image), examples.images[scene.index])


def test_models_without_masks_have_none(oscillators_config):
    examples = evaluate.load(oscillators_config)
    model = states.build_model(oscillators_config.model, 0)
    assert slots.draw(model, oscillators_config, examples, [0]) == []
