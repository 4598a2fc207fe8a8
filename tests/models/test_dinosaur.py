"""DINOSAUR: what is frozen stays, slots may change in number, bad input is one line."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.models.dinosaur import Model
from akorn_jax.models.vit import Model as ViT
from akorn_jax.runtime.tree_paths import by_name
from akorn_jax.training import train_state
from tests.parity import tensors

VIT = {"name": "vit", "image_size": 16, "patch_size": 8, "width": 12, "depth": 1, "heads": 2}
FIELDS = {name: value for name, value in VIT.items() if name != "name"}
AKORN = {"name": "akorn", "image_size": 16, "patch_size": 8, "channels": 12, "heads": 2}
SMALL = {
    "grid": (2, 2),
    "feature_size": 12,
    "num_slots": 3,
    "slot_size": 8,
    "hidden_size": 8,
    "decoder_size": 8,
}
filled = functools.partial(tensors.filled, scale=0.3)
IMAGES = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)


def make(encoder=VIT, **fields):
    return Model(encoder=encoder, **{**SMALL, **fields}, rngs=nnx.Rngs(0))


def call(model, inputs, **options):
    """The output, compiled once per kind of model and call."""
    graphdef, state = nnx.split(model)
    return compiled(graphdef, tuple(options.items()))(state, inputs)


@functools.cache
def compiled(graphdef, options):
    key = jax.random.key(1)
    return jax.jit(lambda s, x: nnx.merge(graphdef, s)(x, key=key, **dict(options)))


@pytest.mark.parametrize("encoder", [VIT, AKORN], ids=["vit", "akorn"])
def test_the_encoder_is_neither_trained_nor_has_moments(encoder):
    model = nnx.eval_shape(lambda: make(encoder))
    _, params, buffers = train_state.split(model)
    names, kept = by_name(params), by_name(buffers)
    assert not any(name.startswith("encoder/") for name in names)
    assert set(kept) >= {f"encoder/{name}" for name in by_name(nnx.state(model.encoder))}
    slots = jax.tree.leaves(nnx.state(nnx.eval_shape(lambda: make(encoder=None)), nnx.Param))
    assert len(names) == len(slots)


def test_features_are_those_of_the_encoder():
    model = filled(make)
    features = call(model.encoder, IMAGES).features
    from_features, from_images = call(model, features), call(model, IMAGES)
    np.testing.assert_allclose(from_images.features, features, rtol=1e-5)
    np.testing.assert_allclose(from_images.slots, from_features.slots, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(from_images.masks.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(from_images.attention.sum(axis=1), 1, rtol=1e-5)


def test_slots_and_iterations_are_free_at_evaluation():
    output = call(filled(make), IMAGES, num_slots=5, num_iterations=4, trajectory=True)
    assert output.slots.shape == (2, 5, 8)
    (attention,) = output.trajectory["attention"]
    assert attention.shape == (4, 2, 5, 2, 2)
    np.testing.assert_array_equal(output.attention, attention[-1])


def test_permuting_slots_permutes_what_is_decoded():
    model = filled(make)
    slots = jax.random.normal(jax.random.key(0), (2, 3, 8))
    order = jnp.array([2, 0, 1])
    features, logits = model.decoder(slots)
    permuted = model.decoder(slots[:, order])
    np.testing.assert_allclose(permuted[0], features[:, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(permuted[1], logits[:, order], rtol=1e-5, atol=1e-6)


def test_standardized_features_do_not_depend_on_scale_and_shift():
    """In training; at evaluation they are those of the running statistics."""
    model = filled(lambda: make(encoder=None, standardize=True))
    features = np.random.default_rng(1).normal(size=(4, 2, 2, 12)).astype(np.float32)
    scale, shift = np.linspace(0.5, 9, 12, dtype=np.float32), np.arange(12, dtype=np.float32)
    plain, moved = (
        call(model, features, train=True),
        call(model, scale * features + shift, train=True),
    )
    np.testing.assert_allclose(plain.terms["feature_mse"], moved.terms["feature_mse"], rtol=1e-3)
    model.statistics.mean[...] = jnp.asarray(shift)
    model.statistics.var[...] = jnp.asarray(scale**2)
    at_rest = call(model, scale * features + shift)
    model.statistics.mean[...] = jnp.zeros(12)
    model.statistics.var[...] = jnp.ones(12)
    np.testing.assert_allclose(at_rest.slots, call(model, features).slots, rtol=1e-3, atol=1e-5)


def test_positions_tell_equal_features_apart():
    """Without them a slot attends alike to all; with them it need not."""
    features = np.ones((2, 2, 2, 12), np.float32)
    for position in (False, True):
        model = filled(lambda position=position: make(encoder=None, position=position))
        attention = call(model, features).attention
        assert (np.ptp(np.asarray(attention), axis=(2, 3)).max() > 1e-3) == position


def test_encoder_in_bfloat16():
    model, half = filled(make), filled(lambda: make(encoder_dtype="bfloat16"))
    exact, rounded = call(model, IMAGES).features, call(half, IMAGES).features
    assert rounded.dtype == jnp.float32
    assert 0 < jnp.abs(exact - rounded).max() < 0.1
    assert half.encoder.vit.norm.scale.dtype == jnp.float32


def test_vit_resizes_normalised_images():
    model = filled(lambda: ViT(**FIELDS, rngs=nnx.Rngs(0)))
    pixel = np.array([0.485, 0.456, 0.406], np.float32)
    np.testing.assert_allclose(model.normalise(pixel), 0, atol=1e-6)
    large = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    assert call(model, large).features.shape == call(model, IMAGES).features.shape == (2, 2, 2, 12)


def test_vit_at_another_size_than_it_was_trained_at():
    trained = filled(lambda: ViT(**FIELDS, rngs=nnx.Rngs(0)))
    fields = {**FIELDS, "image_size": 24, "pretrained_size": 16}
    larger = filled(lambda: ViT(**fields, rngs=nnx.Rngs(0)))
    assert larger.vit.position.shape == trained.vit.position.shape == (1 + 4, 12)
    assert call(larger, IMAGES).features.shape == (2, 3, 3, 12)


BAD = {
    "encoder": ({"encoder": {"name": "nobody"}}, "no module akorn_jax.models.nobody"),
    "dtype": ({"encoder_dtype": "float16"}, "use float32 or bfloat16"),
    "patches": ({"encoder": {**VIT, "patch_size": 7}}, "not divisible by patch_size=7"),
    "heads": ({"encoder": {**VIT, "heads": 5}}, "not divisible by heads=5"),
    "mlp": ({"encoder": {**VIT, "mlp": "relu"}}, "mlp='relu' is unknown"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_fields(case):
    fields, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: make(**fields))


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"do not fit config\.model\.grid and feature_size"):
        call(filled(lambda: make(encoder=None)), IMAGES)
    with pytest.raises(ValueError, match=r"gives features of shape \(2, 2, 12\).*\(4, 4, 12\)"):
        call(filled(lambda: make(grid=(4, 4))), IMAGES)
