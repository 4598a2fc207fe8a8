"""GENESIS-V2 against tensors of the ClevrTex benchmark's code (karazijal/clevrtex)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models import genesis_v2
from akorn_jax.tasks import geco
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
# Zero but for rounding: it cancels in the distance of two embeddings.
ZERO = ("colour_head.bias",)


def kinds():
    """(file, suffix) of trained calls, files of calls without gradient, cases of layers."""
    calls, forwards, layers = [], [], []
    for path in files("genesis_v2", "genesis_v2*.npz"):
        names = np.load(path).files
        if "config" in names:
            suffixes = {name.split("/")[0].removeprefix("grad") for name in names if is_grad(name)}
            calls += [(path, suffix) for suffix in sorted(suffixes)]
            forwards += [] if suffixes else [path]
        cases = {name.split("/")[0] for name in names if name.endswith("/grad_in/features")}
        layers += [(path, case) for case in sorted(cases)]
    return calls, forwards, layers


def is_grad(name):
    kind = name.split("/")[0]
    return kind.startswith("grad") and not kind.startswith(("grad_in", "gradsub"))


CALLS, FORWARDS, LAYERS = kinds()


def build(arrays):
    config = literal(arrays["config"])
    mask_kl = "none"
    if config.get("klm_loss", False):
        mask_kl = "attention" if config.get("detach_mr_in_klm", True) else "both"
    model = empty(
        lambda: genesis_v2.Model(
            image_size=config["img_size"],
            num_slots=config["K_steps"],
            features=config["feat_dim"],
            kernel=config.get("kernel", "gaussian"),
            semi_conv=config.get("semiconv", True),
            prior="autoregressive" if config.get("autoreg_prior", True) else "independent",
            std=config.get("pixel_std", 0.7),
            mask_kl=mask_kl,
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, below(arrays, "param/"))
    return model, mask_kl != "none"


def multiplier(arrays):
    """GECO as its buffers say."""
    buffers = {name: float(value) for name, value in below(arrays, "param/geco.").items()}
    buffers["decay"] = buffers.pop("alpha")
    return geco.make("exponential", **buffers)


def draws(meanings, arrays, num_slots, suffix=""):
    """The recorded draws: one of all pixels, and one of all slots, `[K, B, D]`.

    Draws of slots that an image does not have are not recorded; any number does.
    """
    recorded = [arrays[f"noise_{i:02}{suffix}"] for i in range(len(meanings))]
    pixels = [a for a, m in zip(recorded, meanings, strict=True) if str(m).startswith("rand_pixel")]
    slots = [a for a, m in zip(recorded, meanings, strict=True) if not str(m).startswith("rand")]
    slots += [np.zeros_like(slots[0])] * (num_slots - len(slots))
    return [np.concatenate(pixels)[:, 0], np.stack(slots)]


def maps(array):
    """`[B, K, 1, H, W]` as `[B, K, H, W]`."""
    return np.squeeze(array, axis=-3)


def ahead(expected, name, actual):
    """Compares slot-first `[K, B, D]` of ours with slot-second arrays, where the file has them."""
    if name in expected:
        assert relative(np.swapaxes(actual, 0, 1), expected[name]) < RTOL, name


def check_call(arrays, suffix, monkeypatch):
    model, with_mask_kl = build(arrays)
    images = last(arrays[f"in/image{suffix}"])
    expected = below(arrays, f"out{suffix}/")
    beta = expected["beta_before"]
    recorded = draws(
        arrays[f"noise_meaning{suffix}"], below(arrays, "in/"), model.num_slots, suffix
    )
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    inside = record(monkeypatch, genesis_v2.Model, "attend", "encode", "decode", "_prior")

    def loss(params, images, beta, recorded):
        model = nnx.merge(graphdef, params, rest)
        noise = Recorded(recorded)
        output = model(images, key=noise, train=True, trajectory=True)
        noise.assert_used()
        terms = {name: term.mean() for name, term in output.terms.items()}
        total = terms["nll"] + beta * (terms["kl"] + terms.get("kl_mask", 0.0))
        return total, (output, dict(inside))

    (value, (output, seen)), grads = on_host(jax.value_and_grad(loss, has_aux=True))(
        params, images, beta, recorded
    )
    kl = output.terms["kl"] + output.terms.get("kl_mask", 0.0)
    assert ("kl_mask" in output.terms) == with_mask_kl
    assert relative(value, expected["loss"]) < RTOL
    assert relative(np.mean(output.terms["nll"]), expected["rec_loss"]) < RTOL
    assert relative(output.terms["nll"], expected["err_per_image"]) < RTOL
    assert relative(np.mean(kl), expected["kl"]) < RTOL
    assert relative(np.mean(output.terms["nll"] + kl), expected["elbo"]) < RTOL
    assert relative(seen["attend"][0], maps(expected["log_masks_attention"])) < RTOL
    assert relative(output.masks, maps(expected["masks_decoder"])) < RTOL
    assert relative(output.recon, last(expected["reconstruction"])) < RTOL
    assert relative(output.slots, expected["z"]) < RTOL
    (attention,) = output.trajectory["attention"]
    np.testing.assert_allclose(attention[0].sum(axis=1), 1, rtol=1e-5)
    ahead(expected, "z_mu", seen["encode"].mean)
    ahead(expected, "z_sigma", seen["encode"].std)
    ahead(expected, "prior_mu", seen["_prior"].mean[1:])
    ahead(expected, "prior_sigma", seen["_prior"].std[1:])
    if "slot_reconstructions" in expected:
        assert relative(output.patches, last(expected["slot_reconstructions"])) < RTOL
    if "kl_l_k" in expected:
        assert relative(output.terms["kl"], expected["kl_l_k"].sum(axis=1)) < RTOL
    # The biases before norms whose groups have one channel each cancel.
    zero = ZERO
    if model.features == 8:  # as many as groups
        zero += tuple(f"decoder_module.{i}.bias" for i in (1, 4, 7, 10))
    gradients = to_official(nnx.merge(graphdef, grads, rest))
    assert_gradients(gradients, arrays, suffix, rtol=RTOL, zero=zero)
    state = {"beta": beta, "constraint": 0.0, "started": 0.0}
    if not suffix:
        after = multiplier(arrays).update(jax.tree.map(jnp.float32, state), expected["rec_loss"], 0)
        assert relative(after["beta"], expected["beta_after"]) < RTOL


@pytest.mark.parametrize(("path", "suffix"), CALLS, ids=[f"{p.stem}{s}" for p, s in CALLS])
def test_model(path, suffix, monkeypatch):
    check_call(read(path), suffix, monkeypatch)


def check_dynamic(arrays, prefix=""):
    """Calls with a dynamic number of slots, of which there are no gradients.

    The reference gives all images of a batch as many slots as the fullest one may have: what it
    decodes from empty ones competes for pixels. Here they have no part, as in its batches of one
    image, so masks are compared after sharing out anew among the slots that there are.
    """
    own = {name: arrays[f"in{prefix}/{name}"] for name in below(arrays, f"in{prefix}/")}
    expected = below(arrays, f"out{prefix}/")
    model, _ = build(arrays)
    images = last(own["image"])
    B, K = len(images), model.num_slots
    names = sorted(name for name in own if name.startswith("noise_"))
    meanings = ["rand_pixel" if own[name].ndim == 4 else "slot" for name in names]
    noise = Recorded(draws(meanings, own, K))
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state):
        return nnx.merge(graphdef, state)(images, key=noise, dynamic=True, trajectory=True)

    output = forward(state)
    log_masks = maps(expected["log_masks_attention"])
    missing = np.full((B, K - log_masks.shape[1], *log_masks.shape[2:]), -1e10, np.float32)
    log_masks = np.concatenate([log_masks, missing], axis=1)
    present = log_masks[:, :, 0, 0] > -1e9
    np.testing.assert_array_equal(output.presence, present)
    if "slots_used" in expected:
        np.testing.assert_array_equal(output.presence.sum(axis=1), expected["slots_used"].ravel())
    (attention,) = output.trajectory["attention"]
    assert relative(attention[0], np.exp(log_masks)) < RTOL
    if "masks_decoder" in expected:
        masks = np.zeros_like(log_masks)
        decoded = maps(expected["masks_decoder"])
        masks[:, : decoded.shape[1]] = decoded
        masks = masks * present[..., None, None]
        assert relative(output.masks, masks / masks.sum(axis=1, keepdims=True)) < RTOL
    if "z" in expected:
        for b, k in np.argwhere(present):
            assert relative(output.slots[b, k], expected["z"][b, k]) < RTOL
    if present[:, : log_masks.shape[1]].all() or B == 1:
        for name, actual in (
            ("reconstruction", np.moveaxis(output.recon, -1, 1)),
            ("err_per_image", output.terms["nll"]),
            ("kl", np.mean(output.terms["kl"])),
        ):
            if name in expected:
                assert relative(actual, expected[name]) < RTOL, name


@pytest.mark.parametrize("path", FORWARDS, ids=lambda path: path.stem)
def test_dynamic_number_of_slots(path):
    arrays = read(path)
    check_dynamic(arrays)
    for prefix in sorted({n.split("/")[0] for n in arrays if n.startswith("in_") and "image" in n}):
        check_dynamic(arrays, prefix.removeprefix("in"))


def check_stick_breaking(arrays, case):
    own = below(arrays, f"{case}/")
    features, uniform = last(arrays["in/features"]), arrays["in/noise_00"][:, 0]
    loss_w = maps(arrays["in/loss_w"])
    num_slots = loss_w.shape[1]
    kernel = case if case in genesis_v2.KERNELS else "gaussian"
    layer = genesis_v2.StickBreaking(
        features.shape[-1],
        num_slots=num_slots,
        kernel=kernel,
        semi_conv="param/colour_head.gate" in own,
        rngs=nnx.Rngs(0),
    )
    np.testing.assert_allclose(layer.log_sigma[...], own["out/log_sigma_init"], rtol=1e-6)
    official = below(own, "param/")
    load_official(layer, official)
    graphdef, params = nnx.split(layer)

    def loss(params, features):
        layer = nnx.merge(graphdef, params)
        log_masks = layer(features, uniform, num_slots)
        return jnp.sum(log_masks * loss_w), (log_masks, layer.embeddings(features))

    (_, (log_masks, embeddings)), (grads, grad_features) = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    )(params, features)
    assert relative(log_masks, maps(own["out/log_masks"])) < RTOL
    assert relative(embeddings, last(own["out/colour"])) < RTOL
    # A scope is what its slot and those behind it share out.
    scopes = jnp.exp(log_masks)[:, ::-1].cumsum(axis=1)[:, ::-1]
    assert relative(scopes, np.exp(maps(own["out/log_scopes"]))) < RTOL
    assert relative(grad_features, last(own["grad_in/features"])) < RTOL
    assert_gradients(to_official(nnx.merge(graphdef, grads)), own, rtol=RTOL, zero=ZERO)
    for name, array in to_official(layer).items():
        np.testing.assert_array_equal(array, official[name])


@pytest.mark.parametrize(("path", "case"), LAYERS, ids=[f"{p.stem}-{c}" for p, c in LAYERS])
def test_stick_breaking(path, case):
    check_stick_breaking(read(path), case)


DYNAMIC = [
    path for path in files("genesis_v2", "*.npz") if "dynamic/param/log_sigma" in np.load(path)
]


@pytest.mark.parametrize("path", DYNAMIC, ids=lambda path: path.stem)
def test_dynamic_stick_breaking(path):
    """Each image ends where its next mask would be too small."""
    arrays = read(path)
    official = below(arrays, "gaussian/param/") | below(arrays, "dynamic/param/")
    features, uniform = last(arrays["in/features"]), arrays["in/noise_00"][:, 0]
    num_slots = arrays["in/loss_w"].shape[1]
    layer = genesis_v2.StickBreaking(
        features.shape[-1],
        num_slots=num_slots,
        kernel="gaussian",
        semi_conv="colour_head.gate" in official,
        rngs=nnx.Rngs(0),
    )
    load_official(layer, official)
    graphdef, params = nnx.split(layer)
    log_masks = jax.jit(
        lambda params: nnx.merge(graphdef, params)(features, uniform, num_slots, dynamic=True)
    )(params)
    for b, own in enumerate(log_masks):
        expected = maps(arrays[f"dynamic/out/log_masks_{b}"])[0]
        assert relative(own[: len(expected)], expected) < RTOL
        np.testing.assert_array_equal(own[len(expected) :], np.float32(genesis_v2.NO_MASK))


@pytest.mark.parametrize("path", [*{path: None for path, _ in CALLS}, *FORWARDS])
def test_weights_return_unchanged(path):
    """All but GECO's, which belong to a training."""
    arrays = read(path)
    official = below(arrays, "param/")
    model, _ = build(arrays)
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for name, array in official.items():
        assert returned[name].shape == array.shape, name
        if not name.startswith("geco."):
            np.testing.assert_array_equal(returned[name], array)


def test_parameter_count_is_the_published_one():
    shapes = nnx.state(nnx.eval_shape(lambda: genesis_v2.Model(rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 2_840_270
