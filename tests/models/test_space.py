"""SPACE: laws of its parts, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.distributions import Normal
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.spatial_transformer import place
from akorn_jax.models import space

SMALL = {
    "image_size": 32,
    "grid_size": 4,
    "num_components": 3,
    "channels": 2,
    "groups": 1,
    "what_size": 3,
    "glimpse_size": 16,
    "mask_size": 2,
    "component_size": 2,
    "feature_size": 4,
    "hidden_size": 4,
    "mlp_size": 4,
}


@pytest.fixture(scope="module")
def model():
    """With random numbers in place of initial ones, which take longer to compile."""
    rng = np.random.default_rng(0)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: space.Model(**SMALL, rngs=nnx.Rngs(0))))

    def fill(a):
        return jnp.asarray(0.2 * np.abs(rng.normal(size=a.shape)), a.dtype)

    return nnx.merge(graphdef, jax.tree.map(fill, state))


def objects(rgb, depth, where):
    """Opaque, present objects `[1, N]` of one colour each."""
    n = len(rgb)
    size = (1, n, space.GLIMPSE, space.GLIMPSE)
    nothing = Normal(jnp.zeros((1, n, 1)), jnp.ones((1, n, 1)))
    return space.Objects(
        cells=space.Cells(jnp.zeros((1, n, 1)), nothing, nothing, nothing),
        what=nothing,
        z_pres=jnp.ones((1, n, 1)),
        z_depth=jnp.asarray(depth, jnp.float32)[None, :, None],
        z_what=jnp.zeros((1, n, 1)),
        where=jnp.asarray(where, jnp.float32)[None],
        rgb=jnp.broadcast_to(jnp.asarray(rgb, jnp.float32)[None, :, None, None], (*size, 3)),
        alpha=jnp.ones((*size, 1)),
    )


def test_near_objects_hide_far_ones():
    whole = [1.0, 1.0, 0.0, 0.0]
    scene = space.compose(objects([[1, 0, 0], [0, 1, 0]], [3.0, -3.0], [whole, whole]), 16)
    np.testing.assert_allclose(scene.image[0, 8, 8], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(scene.alpha[0, 8, 8], 1, atol=1e-6)
    np.testing.assert_allclose(scene.weights.sum(1), 1, atol=1e-6)


def test_where_no_object_is_the_foreground_is_empty():
    corner = [0.4, 0.4, -0.6, -0.6]
    scene = space.compose(objects([[1, 1, 1]], [0.0], [corner]), 16)
    assert scene.alpha[0, 2, 2] > 0.99
    np.testing.assert_array_equal(scene.alpha[0, 8:, 8:], 0)
    np.testing.assert_array_equal(scene.masks[0, 0, 8:, 8:], 0)


def test_frames_are_those_of_all_boxes():
    """Against placing the frame of each cell."""
    rng = np.random.default_rng(0)
    size, center = rng.uniform(0.1, 0.9, (2, 5, 2)), rng.uniform(-1, 1, (2, 5, 2))
    where = np.concatenate([size, center], axis=-1).astype(np.float32)
    presence = rng.random((2, 5, 1), np.float32)
    kernel = np.ones((space.GLIMPSE, space.GLIMPSE), np.float32)
    kernel[6:-6, 6:-6] = 0
    expected = place(presence[..., None, None] * kernel[..., None], where, (24, 24), eps=1e-9)
    frames = space.draw_frames(where, presence, 24, space.GLIMPSE)
    np.testing.assert_allclose(frames, expected[..., 0].sum(1), atol=1e-5)


def test_a_fixed_share_mixes_figure_and_ground(model):
    """By the share that is given, where 0 leaves it to the cells."""
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 32, 32, 3)), jnp.float32)
    graphdef, state = nnx.split(model)

    @jax.jit
    def call(state, share):
        model = nnx.merge(graphdef, state)
        noise = Noise.of(jax.random.key(0))
        ground = model.background.infer(image, noise, train=False)
        scene = space.compose(model.foreground.infer(image, 2.5, noise), 32)
        shares = space.log_shares(ground.log_masks)
        behind = space.mixture_log_prob(image[:, None], shares, ground.images, 0.15)
        front = space.normal_log_prob(image, scene.image, 0.15)
        nll = model(image, key=jax.random.key(0), fixed_alpha=share).terms["nll"]
        return nll, jnp.exp(front), jnp.exp(behind), scene.alpha

    for share in (0.0, 0.3):
        nll, front, behind, alpha = (np.asarray(a, np.float64) for a in call(state, share))
        alpha = share or alpha
        expected = -np.log((alpha + 1e-5) * front + (1 - alpha + 1e-5) * behind).sum()
        np.testing.assert_allclose(nll, [expected], rtol=1e-4)


def test_sample_draws_backgrounds(model):
    sample = jax.jit(lambda key: model.sample(3, key=key))
    images = sample(jax.random.key(0))
    assert images.shape == (3, 32, 32, 3)
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-6
    np.testing.assert_array_equal(images, sample(jax.random.key(0)))
    assert jnp.abs(images - sample(jax.random.key(1))).max() > 1e-4
    log_masks, _ = model.background.sample(3, Noise(jax.random.key(0)))
    np.testing.assert_allclose(jnp.exp(log_masks).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"grid_size": 3}, "grid_size=3"),
        ({"foreground_std": 0.0}, "foreground_std=0.0"),
        ({"glimpse_size": 24}, "glimpse_size=24"),
        ({"num_components": 1}, "num_components=1"),
        ({"image_size": 48, "grid_size": 6}, "image_size=48"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        nnx.eval_shape(lambda: space.Model(**{**SMALL, **change}, rngs=nnx.Rngs(0)))


def test_images_of_another_size_are_refused(model):
    with pytest.raises(ValueError, match=r"\(1, 16, 16, 3\).*image_size"):
        model(jnp.zeros((1, 16, 16, 3)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="key"):
        model(jnp.zeros((1, 32, 32, 3)))


@pytest.mark.slow
def test_memory_of_a_training_step():
    """The published model takes less than 3 GB for 4 images, besides weights and gradients."""
    model = nnx.eval_shape(lambda: space.Model(rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, rest, images, key):
        output = nnx.merge(graphdef, params, rest, copy=True)(images, key=key, train=True)
        return sum(term.mean() for term in output.terms.values())

    images = jax.ShapeDtypeStruct((4, 128, 128, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = jax.jit(jax.grad(loss)).lower(params, rest, images, key).compile()
    assert step.memory_analysis().temp_size_in_bytes < 3e9
