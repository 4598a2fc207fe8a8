"""MarioNette against tensors of the reference implementation."""

import functools
import json
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models import marionette
from tests.parity import tensors

FILES = tensors.files("marionette", "mn*.npz")
# (seed, gain) of the files that hold no parameters, see `recipe`.
SMALL, RELEASED = (3, 1.9), (5, 1.9)
W_BETA = 0.002
TOLERANCE = 2e-4  # of the largest entry of each array


def first(array):
    """Channels first, of `[..., h, w, C]`."""
    return np.moveaxis(array, -1, -3)


def recipe(name, shape, seed, gain):
    """The array that the fixtures were made with, a function of its name."""
    if name.endswith("latent"):
        return np.random.RandomState(seed + len(name)).standard_normal(shape).astype(np.float32)
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    u = 2 * random.random_sample(shape) - 1
    if len(shape) >= 2:
        u = u * gain / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("weight"):
        u = 1 + 0.2 * u
    else:
        u = 0.2 * u
    sharp = ("decode.3.weight", "decode.3.bias", "project.0.weight")
    return u.astype(np.float32) * (2 if name.endswith(sharp) else 1)


@functools.cache
def fixture(path):
    """The model of a file, with its weights, the official weights, and the file's arrays."""
    arrays = tensors.read(path)
    config = json.loads(str(arrays["config"]))
    sizes = config["model"]
    stored = tensors.below(arrays, "param/")
    colored = "color" in path.stem  # a fixed background, and presences rounded straight through
    color = stored.get("model.bg_color", arrays["soft/bg"][0, :, 0, 0]) if colored else None
    more = (
        {"background_color": color.tolist(), "straight_through": True}
        if colored
        else {"num_backgrounds": sizes["num_bg"], "background_code_size": sizes["dim_bg"]}
    )
    model = tensors.empty(
        lambda: marionette.Model(
            image_size=sizes["canvas_size"],
            grid_size=sizes["layer_size"],
            num_layers=sizes["num_layers"],
            num_sprites=sizes["num_classes"],
            code_size=sizes["dim_z"],
            presence_weights=np.broadcast_to(config["w_probs"], sizes["num_layers"]).tolist(),
            rngs=nnx.Rngs(0),
            **more,
        )
    )
    seed_and_gain = RELEASED if "released" in path.stem else SMALL
    official = {}
    for name, array in to_official(model).items():
        if name in stored:
            official[name] = stored[name]
        elif name == "model.bg_color":
            official[name] = np.float32(color)
        else:
            official[name] = recipe(name, array.shape, *seed_and_gain)
    for name, total in tensors.below(arrays, "param_sum/").items():
        np.testing.assert_allclose(np.float64(official[name]).sum(), total, rtol=1e-5, atol=1e-4)
    load_official(model, official)
    return model, official, arrays, config


@functools.cache
def results(path):
    """The loss, outputs and intermediate results, soft and hard, and the gradients of the loss.

    In float64: float32 rounds some activations to the other side of a leaky ReLU's kink; which
    ones depends on the machine, and each changes the gradients of all layers before it. At the
    released size that was up to 1.2e-3 of an array's largest entry.
    """
    model, _, arrays, _ = fixture(path)
    with jax.enable_x64():
        found = compute(model, arrays)
        return jax.tree.map(np.asarray, found)


def compute(model, arrays):
    images = tensors.float64(tensors.last(arrays["in/image"]))
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    params, rest = tensors.float64(states)

    def call(params, hard):
        """An output, and what a call keeps inside as the reference returns it."""
        model = nnx.merge(graphdef, params, rest)
        key = tensors.Recorded([arrays["in/noise_01" if hard else "in/noise_00"]])
        output = model(images, key=key, train=True, hard=hard)
        key.assert_used()
        model = nnx.merge(graphdef, jax.lax.stop_gradient(params), rest)
        sprites, sprite_codes = model.sprites()
        codes = jnp.stack(model.encoder(images), axis=1)
        presence = jax.nn.sigmoid(model.presence(codes))[..., 0]
        matches = marionette.match(model.project(codes), sprite_codes)
        shifts = model.shifts(images, marionette.mix(matches, sprites))
        if hard:
            matches = jax.nn.one_hot(jnp.argmax(matches, -1), matches.shape[-1])
        if hard or model.straight_through:
            presence = jnp.round(presence)
        patches = marionette.mix(matches, sprites) * presence[..., None, None, None]
        patches = marionette.shifted(patches, shifts)  # [B, L, G, G, h, w, 4]
        return output, {
            "weights": matches,
            "probs": presence.reshape(*presence.shape[:2], -1),
            "dict": first(sprites),
            "dict_codes": sprite_codes,
            "im_codes": codes.reshape(-1, *codes.shape[2:]),
            "shifts": shifts.reshape(-1, 2),
            "patches": jnp.einsum("blijhwc->blcihjw", patches),
            "layers": first(model.canvases(patches)),
            "reconstruction": first(output.recon),
            "bg": first(output.patches[:, 0]),
            "masks": output.masks[:, 1:, None],
            "pats": first(output.patches * output.masks[..., None])[:, 1:],
        }

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        output, inside = call(params, hard=False)
        terms = {name: term.mean() for name, term in output.terms.items()}
        total = terms["mse"] + W_BETA * terms["beta"] + terms["presence"]
        return total, (output, terms, inside)

    (value, (output, terms, soft)), grads = loss(params)
    _, hard = jax.jit(lambda params: call(params, hard=True))(params)
    return value, output, terms, {"soft": soft, "hard": hard}, nnx.merge(graphdef, grads, rest)


def strided(name, array, config):
    """What a file keeps of an array."""
    if name == "patches":
        step = config["sub_patch"]
        return array[:, :, :, :, ::step, :, ::step]
    keys = {"dict": "sub_dict", "masks": "sub_sem", "pats": "sub_sem"}
    if name in ("dict", "masks", "pats", "layers", "reconstruction", "bg"):
        step = config[keys.get(name, "sub")]
        return array[..., ::step, ::step]
    return array


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outputs(path):
    _, _, arrays, config = fixture(path)
    value, output, terms, modes, _ = results(path)
    compared = 0
    for mode, inside in modes.items():
        expected = tensors.below(arrays, f"{mode}/") | {"dict": arrays["dict"]}
        for name, array in expected.items():
            assert tensors.relative(strided(name, inside[name], config), array) < TOLERANCE, name
            compared += 1
    assert compared > 10
    np.testing.assert_allclose(value, arrays["loss"], rtol=1e-5)
    np.testing.assert_allclose(terms["mse"], arrays["rec_loss"], rtol=1e-5)
    np.testing.assert_allclose(terms["beta"], arrays["beta_loss"], rtol=1e-5)
    np.testing.assert_allclose(modes["soft"]["probs"].mean(), arrays["probs_loss"], rtol=1e-5)
    for name, mode in {"psnr": "soft", "psnr_hard": "hard"}.items():
        image, recon = arrays["in/image"], modes[mode]["reconstruction"]
        psnr = -10 * np.log10(np.mean((image - recon) ** 2))
        np.testing.assert_allclose(psnr, arrays[name], rtol=1e-5)
    np.testing.assert_allclose(output.masks.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_segments_compose_the_image(path):
    """Slots, presences and patches lie in the masks' order, and explain all of the image."""
    model, _, _, _ = fixture(path)
    output = results(path)[1]
    recon = jnp.sum(output.masks[..., None] * output.patches, axis=1)
    np.testing.assert_allclose(recon, output.recon, atol=1e-5)
    sprites = model.dictionary()  # [S, h, w, 4]
    largest = jnp.einsum("bns,shw->bnhw", output.slots, sprites[..., 3]).max((2, 3))
    visible = output.masks.max((2, 3))
    # No mask is more opaque than its sprite is, where it is present.
    assert (visible[:, 1:] <= (largest * output.presence)[:, 1:] + 1e-5).all()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_gradients(path):
    _, _, arrays, config = fixture(path)
    grads = to_official(results(path)[-1])
    compared = {"model.bg_color", *arrays["grad_none"].tolist()}

    def compare(name, actual, expected):
        # A softmax over one background has no gradient but rounding.
        error, largest = np.abs(actual - expected).max(), np.abs(expected).max()
        assert error <= TOLERANCE * max(largest, 1e-6), name
        compared.add(name)

    for name, expected in tensors.below(arrays, "grad/").items():
        compare(name, grads[name], expected)
    for name, expected in tensors.below(arrays, "grad_rows4/").items():
        compare(name, grads[name][::4], expected)
    for name, expected in tensors.below(arrays, "grad_sub/").items():
        flat = grads[name].ravel()
        compare(name, flat[:: math.ceil(flat.size / config["grad_sub"])], expected)
        norm = arrays[f"grad_norm/{name}"]
        np.testing.assert_allclose(np.linalg.norm(flat), norm, rtol=TOLERANCE, atol=1e-7)
    assert compared >= grads.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights_return_unchanged(path):
    model, official, _, _ = fixture(path)
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for name, array in official.items():
        np.testing.assert_array_equal(returned[name], array, strict=True)


def test_parameter_counts():
    """Two layers of 8 x 8 cells at 128 pixels: the model, and the background's dictionary."""
    model = nnx.eval_shape(lambda: marionette.Model(background_code_size=8, rngs=nnx.Rngs(0)))
    counts = {
        name: sum(p.size for p in jax.tree.leaves(nnx.state(module, nnx.Param)))
        for name, module in {"all": model, "backgrounds": model.backgrounds}.items()
    }
    assert counts == {"all": 7_231_355 + 3_195_592, "backgrounds": 3_195_592}
