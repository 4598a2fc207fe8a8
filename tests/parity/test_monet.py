"""MONet against tensors of the ClevrTex benchmark's code (karazijal/clevrtex)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models import monet
from tests.parity.tensors import (
    Recorded,
    assert_gradients,
    below,
    empty,
    files,
    last,
    literal,
    on_host,
    read,
    record,
    relative,
)

RTOL = 2e-4
BETA = GAMMA = 0.5  # they are in the recorded terms


def kinds():
    """Files of whole models, and the cases of files that have the attention network alone."""
    models, attentions = [], []
    for path in files("monet", "monet*.npz"):
        names = np.load(path).files
        if "out/rec_loss" in names:
            models.append(path)
        cases = {name.split("/")[0] for name in names if name.endswith("/out/log_alpha")}
        attentions += [(path, case) for case in sorted(cases)]
    return models, attentions


MODELS, ATTENTIONS = kinds()


def build(arrays):
    config = literal(arrays["config"])
    model = empty(
        lambda: monet.Model(
            image_size=config["size"],
            num_slots=config["K"],
            latent_size=config["z"],
            channels=config["ngf"],
            num_levels=config["numb"],
            background_std=config["bg"],
            foreground_std=config["fg"],
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, below(arrays, "param/"))
    return model


def draws(arrays):
    """The recorded draws of all slots as one, `[B, K, D]`."""
    slots = sorted(name for name in arrays if name.startswith("in/noise_"))
    return [np.stack([arrays[name] for name in slots], axis=1)]


def maps(array):
    """`[B, K, 1, H, W]` as `[B, K, H, W]`."""
    return np.squeeze(array, axis=-3)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_model(path, monkeypatch):
    arrays = read(path)
    model = build(arrays)
    images = last(arrays["in/image"])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    inside = record(monkeypatch, monet.Model, "attend", "encode", "decode")

    def loss(params):
        model = nnx.merge(graphdef, params, rest)
        noise = Recorded(draws(arrays))
        output = model(images, key=noise, train=True)
        noise.assert_used()
        terms = {name: term.mean() for name, term in output.terms.items()}
        total = terms["nll"] + BETA * terms["kl"] + GAMMA * terms["kl_mask"]
        return total, (output, terms, dict(inside))

    (value, (output, terms, inside)), grads = on_host(jax.value_and_grad(loss, has_aux=True))(
        params
    )
    expected = below(arrays, "out/")
    assert relative(value, expected["loss"]) < RTOL
    assert relative(terms["nll"], expected["rec_loss"]) < RTOL
    assert relative(BETA * terms["kl"], expected["kl"]) < RTOL
    assert relative(GAMMA * terms["kl_mask"], expected["kl_mask"]) < RTOL
    assert relative(output.terms["nll"], expected["rec_loss_per_image"]) < RTOL
    assert relative(output.masks, maps(expected["masks"])) < RTOL
    assert relative(output.recon, last(expected["reconstruction"])) < RTOL
    assert relative(output.patches, last(expected["slot_reconstructions"])) < RTOL
    assert relative(inside["attend"], maps(expected["log_masks"])) < RTOL
    assert relative(inside["decode"][1], maps(expected["log_masks_decoder"])) < RTOL
    assert relative(inside["encode"][0], expected["z_mu"]) < RTOL
    assert relative(inside["encode"][1], expected["z_sigma"]) < RTOL
    assert_gradients(to_official(nnx.merge(graphdef, grads, rest)), arrays, rtol=RTOL)


def attention_case(arrays, case):
    """The arrays of one case, the attention network's own names in "param/" and "grad/"."""
    own = below(arrays, f"{case}/")
    return {name.replace("/att.", "/"): array for name, array in own.items()}


def check_attention(arrays):
    official = below(arrays, "param/")
    channels = official["downblocks.0.conv.weight"].shape[0]
    num_levels = len([name for name in official if name.startswith("downblocks.")]) // 3
    images, log_scope = last(arrays["in/image"]), arrays["in/log_scope"][:, 0]
    network = empty(
        lambda: monet.Attention(images.shape[1:3], channels, num_levels, rngs=nnx.Rngs(0))
    )
    load_official(network, official)
    graphdef, params = nnx.split(network)

    def loss(params, images, log_scope):
        log_alpha, log_rest = nnx.merge(graphdef, params)(images, log_scope)
        return jnp.sum(log_alpha * arrays["in/loss_w"][:, 0]), (log_alpha, log_rest)

    (_, (log_alpha, log_rest)), (grads, grad_images, grad_scope) = on_host(
        jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    )(params, images, log_scope)
    assert relative(log_alpha, arrays["out/log_alpha"][:, 0]) < RTOL
    np.testing.assert_allclose(jnp.exp(log_alpha) + jnp.exp(log_rest), 1, rtol=1e-5)
    assert relative(grad_images, last(arrays["grad_in/image"])) < RTOL
    assert relative(grad_scope, arrays["grad_in/log_scope"][:, 0]) < RTOL
    assert_gradients(to_official(nnx.merge(graphdef, grads)), arrays, rtol=RTOL)
    for name, array in to_official(network).items():
        np.testing.assert_array_equal(array, official[name])


def own_arrays():
    """Such a file, written by ourselves: odd sizes, where skips are larger than what they meet."""
    network = monet.Attention((20, 27), 2, 3, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    image = rng.random((2, 3, 20, 27), np.float32)
    log_scope = -rng.random((2, 1, 20, 27), np.float32)
    loss_w = rng.standard_normal((2, 1, 20, 27)).astype(np.float32)
    graphdef, params = nnx.split(network)

    def loss(params, images, log_scope):
        log_alpha, _ = nnx.merge(graphdef, params)(images, log_scope)
        return jnp.sum(log_alpha * loss_w[:, 0]), log_alpha

    (_, log_alpha), (grads, grad_images, grad_scope) = on_host(
        jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    )(params, last(image), log_scope[:, 0])
    arrays = {"in/image": image, "in/log_scope": log_scope, "in/loss_w": loss_w}
    arrays["out/log_alpha"] = np.asarray(log_alpha)[:, None]
    arrays["grad_in/image"] = np.moveaxis(grad_images, -1, 1)
    arrays["grad_in/log_scope"] = np.asarray(grad_scope)[:, None]
    arrays |= {f"param/{name}": array for name, array in to_official(network).items()}
    gradients = to_official(nnx.merge(graphdef, grads))
    arrays |= {f"grad/{name}": array for name, array in gradients.items()}
    return {f"odd/{name}": array for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("source", "case"),
    [*ATTENTIONS, (None, "odd")],
    ids=[*(f"{path.stem}-{case}" for path, case in ATTENTIONS), "ours-odd"],
)
def test_attention(source, case):
    """The attention network alone, also where images halve to odd sizes."""
    check_attention(attention_case(own_arrays() if source is None else read(source), case))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_weights_return_unchanged(path):
    arrays = read(path)
    official = below(arrays, "param/")
    returned = to_official(build(arrays))
    assert returned.keys() == official.keys()
    for name, array in official.items():
        assert returned[name].dtype == array.dtype, name
        np.testing.assert_array_equal(returned[name], array)


def test_parameter_count_is_the_published_one():
    shapes = nnx.state(nnx.eval_shape(lambda: monet.Model(rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 22_161_765
