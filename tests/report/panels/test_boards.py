"""The panel of boards shows which cells are right after each step."""

import base64
import io

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.outputs import ModelOutput
from akorn_jax.report.panels import boards as panel

SOLUTION = np.array([[1, 2], [2, 1]])


class Run:
    config = ConfigDict({"eval": {"options": {"num_steps": 3}}, "model": {"num_steps": 16}})


def test_cells_change_their_color():
    puzzle = np.array([[1, 0], [0, 0]])
    digits = np.stack([3 - SOLUTION, np.array([[2, 2], [2, 2]]), SOLUTION])  # after 1, 2, 3 steps
    output = ModelOutput(trajectory={"logits": (np.eye(2)[digits - 1],)})
    attributes = {"puzzle": np.stack([puzzle] * 4), "solution": np.stack([SOLUTION] * 4)}
    examples = Examples(None, None, attributes, np.arange(4), np.zeros(4, int))
    found = panel.render(Run, {2: output}, examples)
    assert panel.applies(output)
    assert not panel.applies(ModelOutput(logits=np.zeros((1, 2))))
    assert found["names"] == ["step 1", "step 2", "step 3"]
    (board,) = found["boards"]
    assert (board["index"], board["blanks"], board["wrong"]) == (2, 3, 0)
    content = base64.b64decode(board["film"].uri.partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    scale = picture.shape[0] // 2
    given, wrong, right = panel.COLORS.tolist()
    expected = [
        [given, wrong, wrong, wrong],
        [given, right, right, wrong],
        [given, right, right, right],
    ]
    for frame, colors in zip(np.split(picture, 3, axis=1), expected, strict=True):
        assert frame[::scale, 1:-1:scale].reshape(4, 3).tolist() == colors
