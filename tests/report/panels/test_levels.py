"""The panel of levels shows the vectors' colours and islands at every step."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.evaluation.plots import PALETTE
from akorn_jax.outputs import ModelOutput
from akorn_jax.report.panels import levels as panel

RNG = np.random.default_rng(0)


def frames(film, count):
    """The frames `[h, w, 3]` of a film, as they were before they were enlarged and padded."""
    content = base64.b64decode(film.uri.partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    scale = picture.shape[0] // 4
    return [frame[::scale, 1:-1:scale] for frame in np.split(picture, count, axis=1)]


@pytest.fixture
def outputs():
    """Two scenes of 4x4 columns, 2 levels and 3 steps: at the last, level 1 has a left and a right
    half and level 2 is one island; before, no two columns agree."""
    found = {}
    for index in (5, 1):
        states = RNG.normal(size=(3, 4, 4, 2, 16))
        states[-1, :, :2, 0], states[-1, :, 2:, 0] = states[-1, 0, 0, 0], states[-1, 0, 3, 0]
        states[-1, :, :, 1] = states[-1, 0, 0, 1]
        found[index] = ModelOutput(trajectory={"levels": (states,)})
    return found


def test_films(outputs):
    images = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
    examples = Examples(images, None, {}, np.arange(6), np.zeros(6, int))
    assert panel.applies(outputs[5])
    assert not panel.applies(ModelOutput())
    shown = panel.render(None, outputs, examples)
    assert shown["names"] == ["step 1", "step 2", "step 3"]
    assert [scene["index"] for scene in shown["scenes"]] == [5, 1]
    for scene in shown["scenes"]:
        assert scene["counts"] == [2, 1]
        level, whole = (frames(film, 3) for film in scene["levels"])
        assert len(np.unique(level[-1].reshape(-1, 3), axis=0)) == 2
        assert len(np.unique(whole[-1].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(level[0].reshape(-1, 3), axis=0)) > 10
        halves, one = (frames(film, 3) for film in scene["islands"])
        np.testing.assert_array_equal(halves[-1][:, :2], np.broadcast_to(PALETTE[0], (4, 2, 3)))
        np.testing.assert_array_equal(halves[-1][:, 2:], np.broadcast_to(PALETTE[1], (4, 2, 3)))
        assert (one[-1] == PALETTE[0]).all()
