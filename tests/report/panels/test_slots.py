import base64
import io

import jax
import numpy as np
import pytest
from PIL import Image

from akorn_jax import evaluate
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import panels
from akorn_jax.report.panels import slots
from akorn_jax.training import train_state


def decode(uri):
    """Pixels `[H, W, 3 or 4]` of a data URI."""
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)


@pytest.fixture(scope="module")
def shown(slots_config):
    model = train_state.build_model(slots_config.model, 0)
    task = train_state.build("tasks", slots_config.task)
    examples = evaluate.load(slots_config)
    outputs = panels.outputs(model, task, examples, slots_config, [13, 2])  # of two batches
    return model, examples, {index: outputs[index] for index in (13, 2)}


def test_pictures_are_those_of_the_evaluation(slots_config, shown):
    model, examples, outputs = shown
    drawn = slots.render(None, outputs, examples)["slots"]
    labels = evaluate.segment(model, examples, slots_config)
    assert [scene.index for scene in drawn] == [13, 2]
    for scene in drawn:
        opacity = np.stack([decode(picture)[..., 3] for picture in scene.masked]).astype(float)
        assert np.abs(opacity.sum(0) - 255).max() <= len(opacity)  # shares of every pixel
        chosen = np.take_along_axis(opacity, labels[scene.index][None], axis=0)[0]
        assert (chosen >= opacity.max(0) - 1).all()  # the label's mask is the largest
        error = np.abs(decode(scene.recon).astype(float) - examples.images[scene.index]).mean()
        assert np.isclose(scene.error, error / 255)
        np.testing.assert_array_equal(decode(scene.image), examples.images[scene.index])


def test_attention_is_that_of_the_evaluation(slots_config, shown):
    model, examples, outputs = shown
    (scene,) = slots.render(None, {13: outputs[13]}, examples)["slots"]
    rows = np.arange(8, 16)  # the batch of eight that the scene is in
    images = examples.images[rows].astype(np.float32) / 255
    key = jax.random.fold_in(jax.random.key(slots_config.eval.seed), 8)
    (attention,) = model(images, key=key, trajectory=True).trajectory["attention"]
    assert len(scene.films) == slots_config.model.num_slots
    for k, film in enumerate(scene.films):
        frames = split(film, 3)
        for t, frame in enumerate(frames):
            # A shade is as good as its place in the table; the lightness rises along it.
            shades = slots.SHADES.astype(int)
            places = np.abs(frame[..., None, :].astype(int) - shades).sum(-1).argmin(-1)
            np.testing.assert_allclose(places / 255, attention[t, 5, k], atol=1.5 / 255)


def test_large_attention_is_drawn_smaller():
    maps = np.zeros((2, 130, 128))
    maps[1, :3, :3] = 1
    shaded = slots._shaded(maps)
    assert shaded.shape == (2, 43, 42, 3)
    np.testing.assert_array_equal(shaded[1, 0, 0], slots.SHADES[255])
    assert (shaded[0] == slots.SHADES[0]).all()
    assert (shaded[1].reshape(-1, 3)[1:] == slots.SHADES[0]).all()


def split(film, count):
    """The frames `[h, w, 3]` of a film as they were before they were enlarged and padded."""
    picture = decode(film.uri)
    scale = picture.shape[0] // 35
    frames = np.split(picture, count, axis=1)
    return [frame[::scale, 1:-1:scale, :3] for frame in frames]


def test_names_iterations_and_layers():
    layer = np.zeros((2, 1, 3, 4, 4))
    one, two = ({"attention": (layer,) * count} for count in (1, 2))
    assert slots.iterations(ModelOutput(trajectory=one)) == ["iteration 1", "iteration 2"]
    assert slots.iterations(ModelOutput(trajectory=two))[-1] == "layer 2, iteration 2"
    assert slots.iterations(ModelOutput()) == []


def test_refined_masks_are_filmed_rather_than_attention(shown):
    _, examples, outputs = shown
    masks = np.linspace(0, 1, 4 * 2 * 3 * 5).reshape(4, 2, 3, 5).astype(np.float32)
    trajectory = {"masks": (masks,), "attention": (masks[:2],)}
    output = ModelOutput(masks=masks[-1], trajectory=trajectory)
    drawn = slots.render(None, {13: output}, examples)
    assert drawn["filmed"] == "mask"
    assert len(drawn["iterations"]) == 4
    assert len(drawn["slots"][0].films) == 2
    assert slots.render(None, outputs, examples)["filmed"] == "attention"


def test_panels_ask_for_parts(shown):
    assert [name for name, p in panels.found().items() if p.applies(shown[2][13])] == ["slots"]
    tokens = ModelOutput(
        features=np.zeros((4, 4, 3)), trajectory={"tokens": (np.zeros((2, 4, 4, 3)),)}
    )
    assert [name for name, p in panels.found().items() if p.applies(tokens)] == ["oscillators"]
    assert not any(panel.applies(ModelOutput()) for panel in panels.found().values())
