"""The panel of sprites: the dictionary by usage, and scenes taken apart."""

import base64
import io
import types

import numpy as np
import pytest
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.outputs import ModelOutput
from akorn_jax.report.panels import slots, sprites

RNG = np.random.default_rng(0)
USAGE = [0.25, 0.0, 0.75]


def decode(uri):
    """Pixels of a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.fixture(scope="module")
def scene():
    """Two of three slots explain something: sprite 3 a half, sprite 1 a quarter."""
    masks = np.zeros((4, 8, 8), np.float32)
    masks[0, 6:], masks[1, 4:6], masks[2, :4] = 1, 1, 1
    choices = np.zeros((4, 4), np.float32)  # the last choice is the empty sprite
    choices[1, 0], choices[2, 2], choices[3, 3] = 1, 1, 1
    dictionary = RNG.random((3, 6, 6, 4), np.float32)
    output = ModelOutput(
        masks=masks, slots=choices, dictionary=dictionary, recon=np.full((8, 8, 3), 1.5)
    )
    images = RNG.integers(0, 256, (1, 8, 8, 3), np.uint8)
    return output, Examples(images, None, {}, np.arange(1), np.zeros(1, int))


def rendered(scene, summary):
    output, examples = scene
    return sprites.render(types.SimpleNamespace(summary=summary), {0: output}, examples)


def test_it_applies_to_sprites_and_the_slots_panel_does_not(scene):
    assert sprites.applies(scene[0])
    assert not slots.applies(scene[0])
    assert not sprites.applies(ModelOutput(masks=scene[0].masks))


def test_the_dictionary_is_sorted_by_usage(scene):
    shown = rendered(scene, {"sprites": {"usage": USAGE}})["sprites"]
    assert [(s.number, s.usage) for s in shown] == [(3, 0.75), (1, 0.25), (2, 0.0)]
    pixels = np.rint(255 * scene[0].dictionary[2]).astype(np.uint8)
    np.testing.assert_array_equal(decode(shown[0].picture)[::8, ::8], pixels)
    shown = rendered(scene, {})["sprites"]
    assert [(s.number, s.usage) for s in shown] == [(1, None), (2, None), (3, None)]


def test_objects_name_their_sprites_the_largest_first(scene):
    found = rendered(scene, {"sprites": {"usage": USAGE}})
    (shown,) = found["scenes"]
    assert [(part.number, part.share) for part in shown.parts] == [(3, 0.5), (1, 0.25)]
    assert shown.parts[0].sprite == found["sprites"][0].picture
    masked = decode(shown.parts[0].masked)
    np.testing.assert_array_equal(masked[..., :3], scene[1].images[0])
    np.testing.assert_array_equal(masked[..., 3] > 0, np.arange(8)[:, None] < 4 + np.zeros(8))
    assert (decode(shown.recon) == 255).all()
