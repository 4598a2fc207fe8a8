"""GNM: what composing a scene must do, and that its parts fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.models import gnm
from tests.parity.tensors import filled

TINY = {
    "image_size": 16,
    "num_draws": 2,
    "global_size": 3,
    "what_size": 4,
    "background_size": 2,
    "encoder_channels": (4, 4, 6),
    "encoder_strides": (2, 2, 2),
    "glimpse_channels": (4,),
    "background_channels": (4, 4),
    "background_upscales": (4, 4),
    "head_channels": (6,),
    "draw_channels": (5, 5),
    "global_prior": (8,),
    "global_posterior": (8,),
    "global_decoder": (8, 16),
    "background_prior": (4,),
    "background_posterior": (4,),
}


@pytest.fixture(scope="module")
def model():
    return filled(lambda: gnm.Model(**TINY, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def jitted(model):
    graphdef, state = nnx.split(model)

    def compiled(function):
        return jax.jit(lambda *arguments: function(nnx.merge(graphdef, state), *arguments))

    return compiled


def composed(presence, depth, bootstrap=False):
    """A red and a green square, both opaque and as large as the image, on blue."""
    colors = jnp.eye(3)
    opaque = jnp.append(colors[:2], jnp.ones((2, 1)), axis=1)[:, None, None]
    glimpses = jnp.broadcast_to(opaque, (2, 4, 4, 4))
    where = jnp.broadcast_to(jnp.array([1.0, 1.0, 0.0, 0.0]), (1, 2, 4))
    column = lambda x: jnp.array(x)[None, :, None]  # noqa: E731
    background = jnp.broadcast_to(colors[2], (1, 8, 8, 3))
    return gnm.compose(
        glimpses[None], column(presence), where, column(depth), background, bootstrap
    )


CENTER = (0, slice(2, 6), slice(2, 6))  # away from the borders, where glimpses fade


@pytest.mark.parametrize(
    ("presence", "depth", "color"),
    [
        ([1.0, 1.0], [-20.0, 20.0], [1, 0, 0]),
        ([1.0, 1.0], [20.0, -20.0], [0, 1, 0]),
        ([1.0, 1.0], [0.0, 0.0], [0.5, 0.5, 0]),
        ([0.0, 1.0], [-20.0, 20.0], [0, 1, 0]),
        ([0.0, 0.0], [0.0, 0.0], [0, 0, 1]),
    ],
    ids=["near red", "near green", "equally near", "no red", "no objects"],
)
def test_near_objects_hide_far_ones_and_the_background(presence, depth, color):
    scene = composed(presence, depth)
    np.testing.assert_allclose(scene.recon[CENTER], np.broadcast_to(color, (4, 4, 3)), atol=1e-6)


def test_masks_are_those_of_all_objects_even_hidden_ones():
    scene = composed([1.0, 0.25], [-20.0, 20.0])
    np.testing.assert_allclose(scene.masks[0, :, 4, 4], [1, 0.25], atol=1e-6)


def test_bootstrap_shows_the_foreground_everywhere():
    scene = composed([0.0, 0.0], [0.0, 0.0], bootstrap=True)
    np.testing.assert_allclose(scene.recon[CENTER][..., 2], 0.1, atol=1e-6)
    sure = composed([1.0, 0.0], [0.0, 0.0], bootstrap=True)
    np.testing.assert_allclose(sure.masks[0, 0, 4, 4], 0.99, atol=1e-6)


def test_a_hidden_object_still_gets_a_gradient_of_the_sum():
    """The sum of two opaque masks is clipped; clipping passes the gradient."""

    def blue(presence):
        return composed(presence, [0.0, 0.0]).recon[CENTER][..., 2].sum()

    np.testing.assert_allclose(jax.grad(blue)([1.0, 1.0]), [-16, -16], rtol=1e-5)


def test_outputs_fit_together(jitted):
    images = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3))
    output = jitted(lambda model, key: model(images, key=key, train=True))(jax.random.key(1))
    assert output.recon.shape == images.shape
    assert output.masks.shape == (3, 5, 16, 16)
    assert output.patches.shape == (3, 5, 16, 16, 3)
    assert output.slots.shape == (3, 4, 4)
    assert output.boxes.shape == (3, 4, 4)
    assert all(term.shape == (3,) for term in output.terms.values())
    np.testing.assert_allclose(output.masks.sum(1), 1, atol=1e-5)
    assert (output.presence > 0).all()
    assert (output.presence < 1).all()
    low, high = output.boxes[..., :2], output.boxes[..., 2:]
    assert (low >= 0).all()
    assert (low <= high).all()
    assert (high <= 1).all()
    divergences = [term for name, term in output.terms.items() if name != "nll"]
    assert (jnp.stack(divergences) >= -1e-5).all()


def test_samples_follow_the_key_alone(jitted):
    sample = jitted(lambda model, key: model.sample(2, key=key))
    first, again, other = (sample(jax.random.key(seed)) for seed in (0, 0, 1))
    assert first.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_interpolation_begins_and_ends_at_the_images(jitted):
    """The first and last scene are the likeliest ones of the two images' global latents."""
    images = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    strip = jitted(lambda model, images: model.interpolate(*images, num_images=3))(images)
    assert strip.shape == (3, 16, 16, 3)
    z = jitted(lambda model, images: model.global_latent(images))(images)
    ends = jitted(lambda model, z: model.generate(z))(z)
    np.testing.assert_allclose(strip[jnp.array([0, -1])], ends, atol=1e-5)


def test_boxes_stay_near_their_cells():
    """Shifts of any size move a centre by no more than a cell, here a fourth of the image."""
    cells = gnm.boxes(jnp.zeros((1, 16, 4)))[0, :, 2:]
    for shift in (-100.0, 100.0):
        centers = gnm.boxes(jnp.array([0, 0, shift, shift]) * jnp.ones((1, 16, 1)))[0, :, 2:]
        np.testing.assert_allclose(centers - cells, 0.5 * np.sign(shift), atol=1e-5)


def test_boxes_have_a_size_and_a_ratio():
    sx, sy = gnm.boxes(jnp.array([[[0.3, 0.7, 0.0, 0.0]]]))[0, 0, :2]
    np.testing.assert_allclose(sy / sx, np.exp(0.7), rtol=1e-5)
    np.testing.assert_allclose(sx * sy, jax.nn.sigmoid(0.3) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 20}, "image_size=20 is not divisible by 8"),
        ({"background_upscales": (4, 2)}, r"background_upscales=\(4, 2\) must be image_size=16"),
        ({"size_prior": (-1.0, 0.0)}, r"size_prior=\(-1.0, 0.0\)"),
        ({"encoder_strides": (2, 2, 1, 2)}, r"encoder_strides=\(2, 2, 1, 2\) must be equally many"),
        ({"encoder_channels": (), "encoder_strides": ()}, "at least one"),
        ({"background_size": 0}, "background_size=0 must be at least 1"),
        ({"global_decoder": (8, 18)}, r"global_decoder=\(8, 18\) is not divisible by the 4 cells"),
        ({"global_decoder": ()}, r"global_decoder=\(\) must have at least one width"),
        ({"draw_channels": (5,)}, r"draw_channels=\(5,\) must be two widths"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: gnm.Model(**{**TINY, **fields}, rngs=nnx.Rngs(0)))


def test_calls_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match=r"images have shape \(1, 8, 8, 3\)"):
        model(jnp.zeros((1, 8, 8, 3)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="pass key"):
        model(jnp.zeros((1, 16, 16, 3)))
