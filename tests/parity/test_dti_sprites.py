"""DTI-Sprites against tensors of the reference implementation."""

import functools
import json

import jax
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models import dti_sprites
from tests.parity import tensors

FILES = tensors.files("dti_sprites", "dti*.npz")
# Epochs of the reference's curriculum: sprites are learned, and deformed, from these on.
LEARN, DEFORM = 40, 150
OUTPUT, GRADIENT = 2e-4, 2e-4  # tolerances, of the largest entry
COMPLEX = {
    "sprite_transformations": ("color", "projective"),
    "background_transformations": ("color", "projective"),
}


def first(array):
    """Channels first, of `[..., h, w, C]`."""
    return np.moveaxis(array, -1, -3)


@functools.cache
def fixture(path):
    """The model of a file, with its weights, and the file's arrays."""
    arrays = tensors.read(path)
    config = json.loads(str(arrays["config"]))
    official = tensors.below(arrays, "param/")
    stages = [f"encoder.encoder.{i}.0.conv2.weight" for i in range(4, 8)]
    model = tensors.empty(
        lambda: dti_sprites.Model(
            image_size=arrays["in/image"].shape[-1],
            num_sprites=len(official["prototype_params"]),
            num_layers=config["slots"],
            sprite_size=official["prototype_params"].shape[-1],
            encoder_channels=tuple(len(official[name]) for name in stages),
            hidden_size=len(official["occ_predictor.0.bias"]),
            **(COMPLEX if config["complex"] else {}),
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, official)
    return model, arrays


@functools.cache
def compiled(path, train):
    """(learn, deform) -> loss, (output, intermediate results, model after the call), gradients;
    without gradients unless in training."""
    model, arrays = fixture(path)
    images, noise = tensors.last(arrays["in/image"]), arrays["in/noise_00"][:, 0]
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def search(model, learn, deform):
        """The features, the order and the errors of all candidates, which a call keeps inside."""
        features = model.encoder(images, train=train)
        sprites, noises = model.dictionary_layers(tensors.Recorded([noise]), train=train)
        candidates = model.candidates(
            sprites,
            noises,
            model.sprite_transformations.predict(features),
            model.layer_transformations.predict(features),
            deform,
        )
        background = model.transformed_background(features, deform)
        order = model.order(features)
        penalty = model.penalty(learn)
        _, errors = dti_sprites.choose(
            images, candidates, background, order, penalty=penalty, num_sweeps=model.num_sweeps
        )
        return {
            "features": features,
            "order": order,
            "errors": errors,
            "candidates": candidates,
            "background": background,
        }

    def loss(params, learn, deform):
        model = nnx.merge(graphdef, params, rest, copy=True)
        searched = nnx.merge(graphdef, jax.lax.stop_gradient(params), rest, copy=True)
        inside = search(searched, learn > 0.5, deform > 0.5)
        key = tensors.Recorded([noise]) if train else None
        output = model(images, key=key, train=train, learn_sprites=learn, deform=deform)
        if train:
            key.assert_used()
        return output.terms["mse"].mean(), (output, inside, nnx.state(model))

    call = tensors.on_host(jax.value_and_grad(loss, has_aux=True) if train else loss)

    def run(learn, deform):
        found = call(params, np.float32(learn), np.float32(deform))
        if not train:
            return *found, None
        (value, aux), grads = found
        return value, aux, nnx.merge(graphdef, grads, rest)

    return run


def runs(path):
    config = json.loads(str(np.load(path)["config"]))
    return [(path, mode, epoch) for mode, epoch in config["runs"]]


@pytest.mark.parametrize(
    ("path", "mode", "epoch"),
    [run for path in FILES for run in runs(path)],
    ids=lambda value: getattr(value, "stem", value),
)
def test_call(path, mode, epoch):
    model, arrays = fixture(path)
    expected = tensors.below(arrays, f"{mode}_epoch{epoch}/")
    stride = json.loads(str(arrays["config"]))["sub"]
    value, (output, inside, after), grads = compiled(path, mode == "train")(
        epoch >= LEARN, epoch >= DEFORM
    )

    choices = np.moveaxis(output.slots[:, 1:], 0, -1)  # [L, K, B]
    np.testing.assert_array_equal(choices, expected["class_prob"])
    np.testing.assert_array_equal(output.slots[:, 0], 0)
    np.testing.assert_allclose(value, expected["loss"], rtol=OUTPUT)
    compare = {
        "canvas": first(output.recon),
        "masks": output.masks[:, :, None],
        "patches": first(output.patches),
    }
    for name, ours in compare.items():
        assert tensors.relative(ours[..., ::stride, ::stride], expected[name]) < OUTPUT, name
    assert tensors.relative(inside["features"], expected["features"]) < OUTPUT
    np.testing.assert_allclose(inside["order"][1:, 1:], expected["occ_grid"], atol=1e-5)
    errors = expected["greedy_distances"]  # without the empty sprite while it is not allowed
    assert tensors.relative(inside["errors"][:, : errors.shape[1]], errors) < OUTPUT
    if mode == "eval":
        return

    ours = to_official(grads)
    for name, grad in tensors.below(expected, "grad/").items():
        actual = ours[name]
        if actual.shape != grad.shape:
            actual = actual[..., ::3, ::3]
        assert tensors.relative(actual, grad) < GRADIENT, name
    for name in expected["grad_none"]:
        assert not ours[name].any(), name
    ours = to_official(nnx.merge(nnx.graphdef(model), after))
    for name, statistic in tensors.below(expected, "after/").items():
        assert tensors.relative(ours[name], statistic) < 1e-5, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_candidates(path):
    _, arrays = fixture(path)
    _, (_, inside, _), _ = compiled(path, False)(True, True)
    candidates, background = inside["candidates"], inside["background"]
    expected = tensors.below(arrays, "eval_all/")
    ours = {
        "candidate_rgb": first(candidates.rgb)[..., ::4, ::4],
        "candidate_mask": candidates.masks[..., None, ::4, ::4],
        "background": first(background)[None, ..., ::2, ::2],
    }
    for name, array in ours.items():
        assert tensors.relative(array, expected[name]) < OUTPUT, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights_return_unchanged(path):
    model, arrays = fixture(path)
    official = tensors.below(arrays, "param/")
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for name, array in official.items():
        np.testing.assert_array_equal(returned[name], array, strict=True)


@pytest.mark.parametrize(("sequences", "count"), [({}, 48_235_051), (COMPLEX, 79_266_376)])
def test_parameter_counts(sequences, count):
    model = nnx.eval_shape(lambda: dti_sprites.Model(**sequences, rngs=nnx.Rngs(0)))
    assert sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))) == count


def test_checkpoints_repeat_the_trunk():
    """Files that `torch.save` wrote hold the encoder in every transformer, and counters."""
    model, arrays = fixture(FILES[0])
    official = to_official(model, "checkpoint")
    module = tensors.below(arrays, "param/")
    assert official.keys() > module.keys()
    for name in official.keys() - module.keys():
        owner, _, rest = name.partition("encoder.encoder.")
        assert owner or rest.endswith("num_batches_tracked")
        assert owner in ("", "layer_transformer.", "bkg_transformer.") or owner.startswith("sprite")
    model = tensors.empty(lambda: nnx.clone(model))
    load_official(model, official)
    returned = to_official(model)
    for name, array in module.items():
        np.testing.assert_array_equal(returned[name], array)
