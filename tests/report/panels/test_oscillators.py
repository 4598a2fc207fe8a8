import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax import evaluate
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import panels
from akorn_jax.report.panels import oscillators
from akorn_jax.training import train_state

INDICES = [9, 2]


@pytest.fixture(scope="module", params=[1, 2], ids=["one layer", "two layers"])
def setting(request, oscillators_config):
    config = oscillators_config.copy_and_resolve_references()
    config.model.num_layers = request.param
    return shown(config)


def shown(config):
    model = train_state.build_model(config.model, 0)
    task = train_state.build("tasks", config.task)
    examples = evaluate.load(config)
    found = panels.outputs(model, task, examples, config, INDICES)
    return config, model, examples, {index: found[index] for index in INDICES}


def evaluated(config, model, examples, index):
    """The trajectory of the batch that a scene is evaluated in, and the scene's place in it."""
    start = index // config.eval.batch_size * config.eval.batch_size
    images = examples.images[start : start + config.eval.batch_size].astype(np.float32) / 255
    key = jax.random.fold_in(jax.random.key(config.eval.seed), start)
    return model(images, key=key, trajectory=True).trajectory, index - start


def test_shows_what_happened_in_the_evaluation(setting):
    config, model, examples, outputs = setting
    layers = oscillators.trajectory_layers(outputs.values())
    for place, index in enumerate(INDICES):
        trajectory, row = evaluated(config, model, examples, index)
        for layer, x, energies in zip(
            layers, trajectory["oscillators"], trajectory["energies"], strict=True
        ):
            np.testing.assert_allclose(layer.tokens[1:, place], x[:, row], atol=1e-4)
            known = energies[1:, row]  # before each step
            np.testing.assert_allclose(layer.energies[:-1, place], known, rtol=1e-3, atol=1e-2)


def test_starts_before_the_first_step_and_ends_after_the_last(setting):
    config, model, examples, outputs = setting
    layers = oscillators.trajectory_layers(outputs.values())
    assert [layer.first for layer in layers] == [0] * config.model.num_layers
    assert [len(layer.tokens) for layer in layers][-1] == config.model.num_steps + 1
    images = examples.images[np.array(INDICES)].astype(np.float32) / 255
    again = model(images, x0=jnp.asarray(layers[0].tokens[0]), trajectory=True).trajectory
    np.testing.assert_allclose(layers[0].tokens[1], again["oscillators"][0][0], atol=1e-4)
    lengths = np.linalg.norm(layers[0].tokens[0].reshape(-1, config.model.oscillator_dim), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_the_last_energy_is_that_before_one_step_more(setting):
    config, model, examples, _ = setting
    longer = config.copy_and_resolve_references()
    steps = [config.model.num_steps] * config.model.num_layers
    settings = {**longer.model.to_dict(), "num_steps": [*steps[:-1], steps[-1] + 1]}
    other = train_state.build_model(settings, 0)
    images = examples.images[:2].astype(np.float32) / 255
    key = jax.random.key(0)
    last = model(images, key=key, trajectory=True).trajectory["final_energy"][-1]
    more = other(images, key=key, trajectory=True).trajectory["energies"][-1][-1]
    np.testing.assert_allclose(last, more, rtol=1e-4)


def test_a_layer_starts_where_the_last_one_ended(setting):
    config, model, examples, outputs = setting
    layers = oscillators.trajectory_layers(outputs.values())
    for index, place in ((INDICES[0], 0), (INDICES[1], 1)):
        trajectory, row = evaluated(config, model, examples, index)
        for layer, before in zip(layers[1:], trajectory["oscillators"], strict=False):
            np.testing.assert_allclose(layer.tokens[0, place], before[-1, row], atol=1e-4)


def test_names_every_frame(setting):
    config, _, examples, outputs = setting
    frames = oscillators.follow(outputs, config, examples)
    if config.model.num_layers == 1:
        assert frames.names == ["step 0", "step 1", "step 2"]
    else:
        assert frames.names[0] == "layer 1, step 0"
        assert frames.names[-1] == "layer 2, step 2"
    assert len(frames) == len(frames.phases) == len(frames.clusters) == len(frames.energies)
    assert frames.clusters.shape[1:] == (len(INDICES), *examples.segmentation.shape[1:])


def test_models_without_oscillators_are_shown_too(oscillators_config):
    config = oscillators_config.copy_and_resolve_references()
    config.model = {
        "name": "itrsa", "channels": 8, "num_layers": 1, "num_steps": 3, "patch_size": 4,
        "image_size": 32, "heads": 2, "mlp_dim": 8,
    }  # fmt: skip
    config, _, examples, outputs = shown(config)
    frames = oscillators.follow(outputs, config, examples)
    assert frames.names == ["step 1", "step 2", "step 3"]
    assert frames.energies is None


def test_layers_of_falling_resolution_are_shown_at_the_first_ones(setting):
    config, _, examples, _ = setting
    rng = np.random.default_rng(0)

    def steps(size, channels):
        return rng.normal(size=(2, size, size, channels)).astype(np.float32)

    trajectory = {
        "initial": (steps(8, 4)[0], steps(4, 6)[0]),
        "oscillators": (steps(8, 4), steps(4, 6)),
        "energies": (np.zeros(3), np.zeros(3)),
        "final_energy": (np.zeros(()), np.zeros(())),
    }
    outputs = {index: ModelOutput(trajectory=trajectory) for index in INDICES}
    frames = oscillators.follow(outputs, config, examples)
    assert frames.phases.shape == (6, len(INDICES), 8, 8, 3)
    coarse = frames.phases[3:]
    np.testing.assert_array_equal(coarse[:, :, ::2, ::2], coarse[:, :, 1::2, 1::2])
    assert (coarse[:, :, :-1] != coarse[:, :, 1:]).any()


def test_equal_tokens_have_equal_colors_at_all_steps():
    tokens = np.random.default_rng(0).normal(size=(1, 2, 4, 4, 6))
    colors = oscillators.colors(np.concatenate([2 * tokens, tokens, tokens]))
    np.testing.assert_array_equal(colors[1], colors[2])
    assert (colors[0] != colors[1]).any()


def test_colors_of_a_scene_do_not_depend_on_the_others():
    tokens = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 6))
    np.testing.assert_array_equal(
        oscillators.colors(tokens[:, :1])[:, 0], oscillators.colors(tokens)[:, 0]
    )


@pytest.mark.parametrize(
    ("oklab", "rgb"),
    [
        ((1, 0, 0), (255, 255, 255)),
        ((0.62796, 0.22486, 0.12585), (255, 0, 0)),
        ((0.86644, -0.23389, 0.17950), (0, 255, 0)),
        ((0.45201, -0.03246, -0.31153), (0, 0, 255)),
    ],
)
def test_oklab_agrees_with_published_values(oklab, rgb):
    lightness, a, b = oklab
    part = (lightness - oscillators.LIGHTNESS) / oscillators.LIGHTNESS_RANGE
    parts = np.array([part, b / oscillators.CHROMA, a / oscillators.CHROMA])
    np.testing.assert_allclose(oscillators._oklab(parts), rgb, atol=1)
