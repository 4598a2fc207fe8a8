"""GNM against tensors of the reference implementation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import optimizer
from akorn_jax.convert import load_official, to_official
from akorn_jax.layers.distributions import Normal
from akorn_jax.layers.spatial_transformer import corners
from akorn_jax.models import gnm
from akorn_jax.optimizer import schedules
from configs import clevr_gnm
from tests.parity.recipes import official_parameters
from tests.parity.tensors import (
    FIXTURES,
    Recorded,
    below,
    empty,
    files,
    last,
    on_host,
    read,
    relative,
)

PATHS = files("gnm", "gnm*.npz")
SCENES = [path for path in PATHS if "train" not in path.stem]
TRAININGS = [path for path in PATHS if "train" in path.stem]
ids = {"ids": lambda path: path.stem}

# Official state that keeps its value where parameters are made by `recipe`.
BUFFERS = ("aux_p_", "background", "local_latent_sampler.offset", "global_struct_draw.dec_step_0")
# Official name of a divergence -> ours.
TERMS = {
    **{f"kl_{name}": f"kl_{name}" for name in ("pres", "where", "depth", "what", "bg", "global")},
    **{f"kl_aux_{name}": f"aux_{name}" for name in ("pres", "where", "depth", "what", "bg")},
}


def config_of(path):
    with np.load(path) as arrays:
        return json.loads(str(arrays["config"]))


def fields(config):
    """The constructor's arguments; what a file does not say is as published."""
    arch, sizes = config.get("arch", {}), config.get("z", {})
    conv, mlp, draw = (arch.get(name, {}) for name in ("conv", "mlp", "structdraw"))
    found = {
        "image_size": config.get("data", {}).get("img_h"),
        "num_draws": arch.get("draw_step"),
        "global_size": sizes.get("z_global_dim"),
        "what_size": sizes.get("z_what_dim"),
        "background_size": sizes.get("z_bg_dim"),
        "encoder_channels": conv.get("img_encoder_filters"),
        "encoder_strides": conv.get("img_encoder_strides"),
        "glimpse_channels": conv.get("p_what_decoder_filters", [])[:-1],
        "background_channels": conv.get("p_bg_decoder_filters", [])[:-1],
        "background_upscales": conv.get("p_bg_decoder_upscales", [])[:-1],
        "head_channels": arch.get("pwdw", {}).get("pwdw_filters"),
        "draw_channels": [draw[f"rnn_{part}_hid_dim"] for part in ("encoder", "decoder") if draw],
        "global_prior": mlp.get("p_global_encoder_filters", [])[:-1],
        "global_posterior": mlp.get("q_global_encoder_filters", [])[:-1],
        "global_decoder": mlp.get("p_global_decoder_filters"),
        "background_prior": mlp.get("p_bg_generator_filters", [])[:-1],
        "background_posterior": mlp.get("q_bg_encoder_filters", [])[:-1],
    }
    return {name: value for name, value in found.items() if value}


@functools.cache
def schedules_of_recipe():
    """The published recipe's options of the model and weights of its terms."""
    task = clevr_gnm.get_config().task
    return tuple(
        {name: schedules.make(spec) for name, spec in specs.to_dict().items()}
        for specs in (task.options, task.weights)
    )


def schedule(step):
    """(options, weights) at a step of the training."""
    return tuple(
        {name: np.float32(value(step)) for name, value in values.items()}
        for values in schedules_of_recipe()
    )


def cells(array):
    """`[B, D, G, G]` to `[B, N, D]`."""
    return last(array).reshape(len(array), -1, array.shape[1])


def draws(arrays, prefix, num_draws):
    """The recorded noise of a call, in our layout.

    After the global latent comes a draw of the background's prior that nothing reads; what remains
    after the cells feeds a reconstruction that is only logged.
    """
    noise = list(below(arrays, prefix).values())
    global_ = np.stack(noise[1 : 1 + num_draws])
    local = noise[2 + num_draws : 6 + num_draws]
    return [noise[0][:, :, 0, 0], global_, *map(cells, local)]


class Case:
    """A model with its official parameters, and one compiled training loss for all steps."""

    def __init__(self, path):
        self.arrays = read(path)
        self.config = config_of(path)
        self.arguments = fields(self.config["model"])
        std = self.config["model"].get("const", {}).get("likelihood_sigma", 0.5)
        self.model = empty(lambda: gnm.Model(**self.arguments, std=std, rngs=nnx.Rngs(0)))
        self.official = official_parameters(
            self.model, self.arrays, seed=0, gain=1.4, constants=BUFFERS
        )
        load_official(self.model, self.official)
        self.graphdef, self.params, self.rest = nnx.split(self.model, nnx.Param, ...)
        self.num_draws = self.model.draw.num_steps
        self.value_and_grad = on_host(jax.value_and_grad(self._loss, has_aux=True))

    def _loss(self, params, image, noise, options, weights):
        model = nnx.merge(self.graphdef, params, self.rest)
        noise = Recorded(noise)
        output = model(image, key=noise, train=True, **options)
        noise.assert_used()
        return sum(weights[name] * jnp.mean(term) for name, term in output.terms.items()), output

    def gradients(self, grads):
        return to_official(nnx.merge(self.graphdef, grads, self.rest))


case = functools.cache(Case)


def assert_images(ours, expected, tolerance, name):
    """`[..., H, W]`, where the file keeps every n-th row and column."""
    stride = ours.shape[-1] // expected.shape[-1]
    assert relative(ours[..., ::stride, ::stride], expected) < tolerance, name


def tolerances(path):
    """Of outputs and gradients: float32 itself errs by up to a third as much."""
    return (5e-4, 1e-3) if "released" in path.stem else (2e-5, 5e-5)


SCENE_STEPS = [(path, int(step)) for path in SCENES for step in config_of(path)["steps"]]


@pytest.mark.parametrize(
    ("path", "step"), SCENE_STEPS, ids=[f"{path.stem}-{step}" for path, step in SCENE_STEPS]
)
def test_scene(path, step):
    """Outputs, terms and gradients in each phase of the schedules."""
    case_, (tolerance, grad_tolerance) = case(path), tolerances(path)
    options, weights = schedule(step)
    image = last(case_.arrays["in/image"])
    noise = draws(case_.arrays, "in/noise_", case_.num_draws)
    (loss, output), grads = case_.value_and_grad(case_.params, image, noise, options, weights)

    there = below(case_.arrays, f"step{step}/")
    scheduled = below(there, "schedule/")
    np.testing.assert_allclose(options["temperature"], scheduled["tau_pres"], rtol=1e-6)
    np.testing.assert_allclose(options["presence_prior"], scheduled["p_pres"], rtol=1e-5)
    for name in ("kl_global", "aux_where", "aux_bg"):
        official = scheduled[f"beta_{name.removeprefix('kl_')}"]
        np.testing.assert_allclose(weights[name], official, rtol=1e-6)

    np.testing.assert_allclose(loss, there["loss"], rtol=tolerance)
    np.testing.assert_allclose(-output.terms["nll"].mean(), there["rec_loss"], rtol=tolerance)
    for official, name in TERMS.items():
        expected = there[official]
        ours = weights[name] * output.terms[name].mean()
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=1e-5, err_msg=name)
    per_image = below(there, "raw_per_image/")
    if per_image:
        per_image["nll"] = -per_image.pop("log_like")
        per_image["kl_global"] = per_image["kl_global"].sum(1)
    for official, expected in per_image.items():
        ours = output.terms[TERMS.get(official, official)]
        assert relative(ours, expected) < tolerance, official

    expected = {
        "canvas": output.recon.transpose(0, 3, 1, 2),
        "background": output.patches[:, 0].transpose(0, 3, 1, 2),
        "patches": output.patches[:, 1:].transpose(0, 1, 4, 2, 3),
        "masks": output.masks[:, 1:, None],
    }
    for name in expected.keys() & there.keys():
        assert_images(expected[name], there[name], tolerance, name)
    np.testing.assert_allclose(output.masks.sum(1), 1, atol=1e-5)
    if step in case_.config["full_steps"]:
        assert relative(output.presence, cells(there["z_pres"])[..., 0]) < tolerance
        assert relative(output.slots, cells(there["z_what"])) < tolerance
        assert relative(output.boxes, corners(cells(there["z_where"]))) < tolerance
        np.testing.assert_array_equal(np.round(output.presence).sum(1), there["counts"])

    ours = case_.gradients(grads)
    for name, expected in below(there, "grad/").items():
        assert relative(ours[name], expected) < grad_tolerance, name
    for name, expected in below(there, "grad_sub/").items():
        flat = ours[name].ravel()
        part = flat[:: -(-flat.size // case_.config["grad_sub"])]
        norm = there[f"grad_norm/{name}"]
        np.testing.assert_allclose(np.linalg.norm(flat), norm, rtol=grad_tolerance, err_msg=name)
        assert relative(part, expected) < grad_tolerance, name


def test_gradients_are_compared():
    for path in SCENES:
        names = [name for name in case(path).arrays if "/grad/" in name or "/grad_sub/" in name]
        assert len(names) >= len(jax.tree.leaves(case(path).params)), path.stem


@pytest.mark.parametrize("path", SCENES, **ids)
def test_distributions(path):
    """What the networks say before anything is drawn from it."""
    case_, (tolerance, _) = case(path), tolerances(path)
    arrays = case_.arrays
    noise = draws(arrays, "in/noise_", case_.num_draws)

    @on_host
    def distributions(params, image):
        model = nnx.merge(case_.graphdef, params, case_.rest)
        features = model.encoder(image)
        z_global, drawn, _ = model.draw.infer(features, Recorded(noise[1:2]))
        background = Normal.of(model.background_posterior(features.reshape(len(image), -1)))
        return features, z_global, drawn, background, model.head(features), model.head(drawn)

    features, z_global, drawn, background, q, p = distributions(
        case_.params, last(arrays["in/image"])
    )
    found = {
        "img_enc": features.transpose(0, 3, 1, 2),
        "global_dec": drawn.transpose(0, 3, 1, 2),
        "z_global": z_global.swapaxes(0, 1)[..., None, None],
        "q_bg_mean": background.mean[..., None, None],
        "q_bg_std": background.std[..., None, None],
    }
    for which, head in (("q", q), ("p", p)):
        found[f"{which}_pres_prob"] = jax.nn.sigmoid(head.pres).reshape(-1, 1)
        for name in ("where", "depth", "what"):
            mean, std = getattr(head, name)
            found[f"{which}_{name}_mean"] = mean.reshape(-1, mean.shape[-1])
            found[f"{which}_{name}_std"] = std.reshape(-1, std.shape[-1])
    compared = found.keys() & arrays.keys()
    assert len(compared) > 15 or "released" in path.stem
    for name in compared:
        assert relative(found[name], arrays[name]) < tolerance, name


@pytest.mark.parametrize("path", SCENES, **ids)
def test_sample(path):
    """A scene of the prior, and the likeliest scene of an image's global latent."""
    case_, (tolerance, _) = case(path), tolerances(path)
    arrays, T = case_.arrays, case_.num_draws
    temperature = schedule(int(case_.config["steps"][-1]))[0]["temperature"]
    generated = list(below(arrays, "in/gen_noise_").values())

    @on_host
    def sample(params, noise):
        model = nnx.merge(case_.graphdef, params, case_.rest)
        noise = Recorded(noise)
        images = model.sample(len(generated[0]), key=noise, temperature=temperature)
        noise.assert_used()
        return images

    @on_host
    def likeliest(params, image, noise):
        model = nnx.merge(case_.graphdef, params, case_.rest)
        z_global, _, _ = model.draw.infer(model.encoder(image), Recorded([noise]))
        return model.generate(z_global)

    if "gen/canvas" in arrays:
        local = map(cells, generated[T + 1 :])
        noise = [np.stack(generated[:T]), generated[T][:, :, 0, 0], *local]
        images = sample(case_.params, noise)
        assert_images(images.transpose(0, 3, 1, 2), arrays["gen/canvas"], tolerance, "gen")
    if "recon_from_q_g_mode" in arrays:
        noise = draws(arrays, "in/noise_", T)[1]
        images = likeliest(case_.params, last(arrays["in/image"]), noise).transpose(0, 3, 1, 2)
        assert_images(images, arrays["recon_from_q_g_mode"], tolerance, "mode")


def test_schedules():
    """The recipe's, at all the steps where the reference's were recorded."""
    (path,) = files("components", "components.npz")
    arrays = read(path)
    columns = arrays["gnm/schedule_columns"]
    for step, row in zip(arrays["in/schedule_steps"], arrays["gnm/schedule"], strict=True):
        options, weights = schedule(int(step))
        ours = {
            "tau_pres": options["temperature"],
            "p_pres": options["presence_prior"],
            "curriculum_on": options["bootstrap"],
            **{f"beta_{name.removeprefix('kl_')}": weight for name, weight in weights.items()},
        }
        for column, official in zip(columns, row, strict=True):
            np.testing.assert_allclose(ours[column], official, rtol=2e-6, err_msg=column)


@pytest.mark.parametrize("path", TRAININGS, **ids)
def test_training(path):
    """Three steps of the recipe's optimizer."""
    arrays = read(path)
    start = case(FIXTURES / "gnm" / f"{arrays['start']}.npz")
    tx, _ = optimizer.make(clevr_gnm.get_config().optimizer, num_steps=3)

    @jax.jit
    def update(params, opt_state, grads):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)

    params, opt_state = start.params, jax.jit(tx.init)(start.params)
    for step in range(3):
        noise = draws(arrays, f"in/noise_s{step}_", start.num_draws)
        image = last(arrays[f"in/image_{step}"])
        (loss, _), grads = start.value_and_grad(params, image, noise, *schedule(step))
        np.testing.assert_allclose(loss, arrays["loss"][step], rtol=1e-5)
        params, opt_state, norm = update(params, opt_state, grads)
        np.testing.assert_allclose(norm, arrays["grad_norm"][step], rtol=1e-4)

    before, after = start.official, start.gradients(params)
    for name, expected in below(arrays, "final_sub/").items():
        flat = after[name].ravel()
        np.testing.assert_allclose(flat[:: -(-flat.size // 64)], expected, atol=5e-6, err_msg=name)
        moved = np.linalg.norm(after[name] - before[name])
        norm = arrays[f"delta_norm/{name}"]
        np.testing.assert_allclose(moved, norm, rtol=5e-3, atol=1e-6, err_msg=name)


def test_weights_return_unchanged():
    for path in SCENES:
        returned, official = to_official(case(path).model), case(path).official
        assert returned.keys() == official.keys()
        for name, array in official.items():
            assert returned[name].shape == array.shape, name
            np.testing.assert_array_equal(returned[name], array, err_msg=name)


def test_published_size():
    model = nnx.eval_shape(lambda: gnm.Model(rngs=nnx.Rngs(0)))
    sizes = jax.tree.map(lambda leaf: leaf.size, nnx.state(model, nnx.Param))
    assert sum(jax.tree.leaves(sizes)) == 8_636_446
