"""Laws of the Agglomerator, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.models.agglomerator import Model, consensus, grouped, neighbours, weighted_mean

RNG = np.random.default_rng(0)
SMALL = {"image_size": 8, "downsample": 2, "channels": 8, "embedding_size": 6, "num_classes": 3}


def build(**fields):
    return Model(**{**SMALL, **fields}, rngs=nnx.Rngs(0))


@nnx.jit
def embed(model, images):
    return model(images).embedding


@nnx.jit
def embed_in_training(model, images, key):
    """It moves the model's statistics."""
    return model(images, key=key, train=True).embedding


@pytest.fixture(scope="module")
def model():
    return build(num_levels=3)


def states(model, tokens, num_steps):
    """Levels `[T, L, B, N, d]` after each step, from tokens `[B, N, d]`."""
    B, N, d = tokens.shape
    initial = jnp.broadcast_to(model.initial_levels[...][:, None, None], (3, B, N, d))
    return jax.jit(lambda tokens: model.update(tokens, initial, num_steps)[1])(tokens)


def test_an_image_climbs_one_level_a_step(model):
    """After t steps, levels 1 to t know the tokens and no other does."""
    tokens = RNG.normal(size=(2, 16, 8)).astype(np.float32)
    found = states(model, tokens, 4)
    for t in range(4):
        same = np.abs(found[t, :, 0] - found[t, :, 1]).max(axis=(1, 2)) == 0
        np.testing.assert_array_equal(same, np.arange(3) > t)


def test_columns_do_not_know_where_they_are(model):
    """A fresh model's columns, permuted, give the same levels, permuted: only the trained scales of
    the norms tell them apart."""
    tokens = RNG.normal(size=(1, 16, 8)).astype(np.float32)
    order = RNG.permutation(16)
    found, permuted = states(model, tokens, 3), states(model, tokens[:, order], 3)
    np.testing.assert_allclose(found[:, :, :, order], permuted, atol=1e-4)


def test_groups_are_a_loop_over_levels():
    x, kernel = RNG.normal(size=(3, 2, 5, 4)), RNG.normal(size=(3, 4, 6))
    bias = RNG.normal(size=(3, 6))
    expected = [x[g] @ kernel[g] + bias[g] for g in range(3)]
    np.testing.assert_allclose(grouped(x, kernel, bias), np.stack(expected), rtol=1e-5)


def test_consensus():
    """The diagonal's logit is nearly 0, columns beyond the radius are not heard, and the mean of
    equal columns is what they are, exactly."""
    x = RNG.normal(size=(2, 12, 8)).astype(np.float32)
    near = neighbours((3, 4), 1.5)
    assert near.sum(axis=1).tolist() == [4, 6, 6, 4, 6, 9, 9, 6, 4, 6, 6, 4]
    weights = np.asarray(consensus(x, near))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    assert (weights[:, ~near] == 0).all()
    logits = np.einsum("bid,bjd->bij", x, x / np.linalg.norm(x, axis=-1, keepdims=True)) / 8**0.5
    logits[:, np.arange(12), np.arange(12)] = -5e-4
    expected = np.where(near, np.exp(logits), 0)
    np.testing.assert_allclose(weights, expected / expected.sum(-1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(weighted_mean(weights, x), weights @ x, atol=1e-6)
    equal = np.broadcast_to(x[:, :1], x.shape)
    assert (np.asarray(weighted_mean(consensus(equal), equal)) == equal).all()


def test_one_level_has_nothing_above():
    model = build(num_levels=1)
    images = RNG.random((2, 8, 8, 3))
    output = jax.jit(lambda images: model(images, trajectory=True))(images)
    assert output.trajectory["levels"][0].shape == (2, 2, 4, 4, 1, 8)
    assert np.isfinite(output.embedding).all()


def test_counts_divide_the_weighted_sum():
    """Without them a step gives 4 times as much, and 3 times at the top."""
    tokens = jnp.asarray(RNG.normal(size=(1, 16, 8)), jnp.float32)
    once = [
        model.update(tokens, jnp.zeros((2, 1, 16, 8)), 1)[0]
        for model in (build(), build(normalize_by_count=False))
    ]
    np.testing.assert_allclose(4 * once[0][0], once[1][0], rtol=1e-5)
    np.testing.assert_allclose(3 * once[0][1], once[1][1], rtol=1e-5)


def test_output():
    model = build(image_size=(8, 12), num_levels=2, head_pool=2)
    images = RNG.random((2, 8, 12, 3)).astype(np.float32)
    graphdef, state = nnx.split(model)
    call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x, trajectory=True, num_steps=3))
    output = call(state, images)
    (levels,) = output.trajectory["levels"]
    assert levels.shape == (3, 2, 4, 6, 2, 8)
    assert output.logits.shape == (2, 3)
    np.testing.assert_array_equal(output.features, levels[-1, ..., -1, :])
    np.testing.assert_allclose(np.linalg.norm(output.embedding, axis=-1), 1, rtol=1e-5)
    top = levels[-1, ..., -1, :].reshape(2, 2, 2, 3, 2, 8).mean(axis=(2, 4)).reshape(2, 6, 8)
    np.testing.assert_allclose(model.head(top, None), output.embedding, atol=1e-5)


def test_training_drops_features_and_moves_statistics():
    model = build()
    images = RNG.random((4, 8, 8, 3)).astype(np.float32)
    before = model.tokenizer.norms[0].mean[...]
    evaluated = embed(model, images)
    np.testing.assert_array_equal(model.tokenizer.norms[0].mean[...], before)
    trained = [embed_in_training(model, images, jax.random.key(i)) for i in (0, 1)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-3
    assert np.abs(model.tokenizer.norms[0].mean[...] - before).max() > 1e-4
    assert np.abs(embed(model, images) - evaluated).max() > 1e-6
    with pytest.raises(ValueError, match="pass key="):
        model(images, train=True)


def test_grey_images_are_read_once():
    model = build(num_colors=1, mean=0.2, std=0.3)
    grey = RNG.random((2, 8, 8, 1)).astype(np.float32)
    colored = np.repeat(grey, 3, axis=-1)
    np.testing.assert_array_equal(embed(model, grey), embed(model, colored))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # The published settings of MNIST, smallNORB and ImageNet, none of which can run.
        (
            {"image_size": 28, "downsample": 4, "patch_size": 4, "channels": 64},
            "feature map of 7x7, which patch_size=4 cuts into no whole patches; set "
            "config.model.patch_size=1",
        ),
        (
            {"image_size": 48, "patch_size": 24, "channels": 32},
            "channels=32 over patch_size=24 leaves 0.0555556 channels .* set "
            "config.model.patch_size=1, or raise channels",
        ),
        ({"image_size": 256, "patch_size": 32, "channels": 32}, "leaves 0.03125 channels"),
        ({"patch_size": 4, "channels": 64}, "fewer than 2 columns"),
        ({"channels": 6, "patch_size": 2}, "leaves 1.5 channels"),
        ({"downsample": 3}, "downsample=3 is unknown; it is one of"),
        ({"num_levels": 0}, "num_levels=0: a column has at least 1 level"),
        ({"dropout": 1.0}, "dropout=1.0 is a probability below 1"),
        ({"head_pool": 3}, "head_pool=3 does not divide the 4x4 columns"),
        ({"mean": (0.5, 0.5)}, r"\(0.5, 0.5\) has 2 numbers, images have num_colors=3"),
    ],
)
def test_sizes_that_no_model_has(fields, message):
    with pytest.raises(ValueError, match=message) as info:
        nnx.eval_shape(lambda: build(**fields))
    assert "\n" not in str(info.value)


def test_calls_that_no_model_answers():
    model = build(head_step=3)
    for images, options, message in (
        ((2, 8, 10, 3), {}, r"images of \(8, 10, 3\), the model takes \(8, 8, 3\)"),
        ((2, 8, 8, 3), {"num_steps": 2}, "num_steps=2, head_step=3"),
        ((2, 8, 8, 3), {"num_steps": 0}, "num_steps=0"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda x, o=options: model(x, **o), jnp.zeros(images))
