"""GENESIS-V2: seeds and masks, a number of slots that is free or found, the prior of scenes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from akorn_jax.layers.noise import Noise
from akorn_jax.models import genesis_v2
from tests.parity.tensors import Recorded

KEY = jax.random.key(0)
SMALL = {"image_size": 32, "num_slots": 4, "features": 8}


@pytest.fixture(scope="module")
def model():
    """Small, with positions in its embeddings and masks wide enough to use up an image."""
    model = genesis_v2.Model(**SMALL, rngs=nnx.Rngs(0))
    model.stick_breaking.gate[...] = jnp.ones(1)
    model.stick_breaking.log_sigma[...] = jnp.float32(3.5)
    return model


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(KEY, (2, 32, 32, 3))


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    return [rng.random((2, 32, 32), np.float32), rng.standard_normal((4, 2, 8)).astype(np.float32)]


@pytest.fixture(scope="module")
def call(model):
    graphdef, state = nnx.split(model)

    def forward(state, images, draws, num_slots, dynamic):
        return nnx.merge(graphdef, state)(
            images, key=Recorded(draws), num_slots=num_slots, dynamic=dynamic, trajectory=True
        )

    compiled = jax.jit(forward, static_argnums=(3, 4))
    return lambda images, draws, num_slots=4, dynamic=False: compiled(
        state, images, draws, num_slots, dynamic
    )


def test_output(call, images, draws):
    output = call(images, draws)
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(output.trajectory["attention"][0].sum(axis=2), 1, rtol=1e-5)
    expected = (output.masks[..., None] * output.patches).sum(axis=1)
    np.testing.assert_allclose(output.recon, expected, rtol=1e-5)
    assert output.slots.shape == (2, 4, 8)
    assert output.presence is None
    assert set(output.terms) == {"nll", "kl"}
    density = scipy.stats.norm.pdf(images[:, None], output.patches, 0.7)
    mixture = (np.asarray(output.masks)[..., None] * density).sum(axis=1)
    np.testing.assert_allclose(output.terms["nll"], -np.log(mixture).sum((1, 2, 3)), rtol=1e-4)


def test_the_number_found_is_as_if_it_were_given(call, images, draws):
    """An image for which n slots suffice gets what a call with n slots gives."""
    found = call(images, draws, dynamic=True)
    counts = np.asarray(found.presence.sum(axis=1), int)
    assert (counts < 4).any(), "some slots are missing"
    for b, n in enumerate(counts):
        np.testing.assert_array_equal(found.presence[b], np.arange(4) < n)
        one = [draws[0][b : b + 1], draws[1][:n, b : b + 1]]
        given = call(images[b : b + 1], one, num_slots=int(n))
        np.testing.assert_allclose(found.masks[b, :n], given.masks[0], atol=1e-5)
        np.testing.assert_array_equal(found.masks[b, n:], 0)
        np.testing.assert_allclose(found.recon[b], given.recon[0], atol=1e-5)
        for name, term in found.terms.items():
            np.testing.assert_allclose(term[b], given.terms[name][0], rtol=1e-4)


@pytest.mark.parametrize("kernel", genesis_v2.KERNELS)
def test_a_seed_belongs_to_its_mask_and_the_last_mask_is_what_is_left(kernel):
    layer = genesis_v2.StickBreaking(
        4, num_slots=3, kernel=kernel, semi_conv=True, rngs=nnx.Rngs(0)
    )
    layer.gate[...] = jnp.ones(1)
    features = jax.random.normal(KEY, (2, 6, 6, 4))
    uniform = jax.random.uniform(KEY, (2, 6, 6))
    masks = np.exp(jax.jit(lambda: layer(features, uniform, 3))())
    np.testing.assert_allclose(masks.sum(axis=1), 1, rtol=1e-5)
    seeds = np.asarray(uniform).reshape(2, -1).argmax(axis=1)
    first = masks[:, 0].reshape(2, -1)
    np.testing.assert_allclose(first[np.arange(2), seeds], 0.99, rtol=1e-4)
    assert (first <= 0.99 + 1e-5).all()
    assert (first >= 0.01 - 1e-5).all()


def test_embeddings_begin_as_positions():
    layer = genesis_v2.StickBreaking(
        4, num_slots=3, kernel="gaussian", semi_conv=True, rngs=nnx.Rngs(0)
    )
    x = layer.embeddings(jax.random.normal(KEY, (1, 5, 3, 4)))[0]
    np.testing.assert_array_equal(x[..., :-2], 0)
    np.testing.assert_allclose(x[:, 0, -2], np.linspace(-1, 1, 5), atol=1e-6)
    np.testing.assert_allclose(x[0, :, -1], np.linspace(-1, 1, 3), atol=1e-6)


def test_clipping_keeps_the_gradient():
    x = jnp.array([-1.0, 0.5, 2.0])
    clipped = genesis_v2.clip_straight_through(x, 0.0, 1.0)
    np.testing.assert_allclose(clipped, [0, 0.5, 1])
    slope = jax.grad(lambda x: genesis_v2.clip_straight_through(x, 0.0, 1.0).sum())(x)
    np.testing.assert_array_equal(slope, 1)


def test_prior_knows_of_earlier_slots_alone(model):
    slots = jax.random.normal(KEY, (4, 2, 8))
    prior = jax.jit(model.prior)
    before, after = prior(slots), prior(slots.at[2].add(1.0))
    np.testing.assert_array_equal(before.mean[0], 0)
    np.testing.assert_array_equal(before.std[0], 1)
    np.testing.assert_array_equal(before.mean[:3], after.mean[:3])
    assert (before.mean[3] != after.mean[3]).all()


def test_samples_follow_the_prior(model):
    """Draws, standardised by the prior's own distributions, are the noise that they came from."""
    eps = jax.random.normal(KEY, (4, 2, 8))
    slots = model.prior.sample(eps)
    p = model.prior(slots)
    np.testing.assert_allclose((slots - p.mean) / p.std, eps, atol=1e-4)


@pytest.mark.parametrize("prior", genesis_v2.PRIORS)
def test_samples_are_images(prior):
    model = genesis_v2.Model(**SMALL, prior=prior, rngs=nnx.Rngs(0))
    images = jax.jit(lambda: model.sample(3, key=Noise(KEY), num_slots=2))()
    assert images.shape == (3, 32, 32, 3)
    assert ((images >= 0) & (images <= 1)).all()


def test_divergence_of_the_masks_trains_what_it_says(images, draws):
    def slopes(mask_kl):
        model = genesis_v2.Model(**SMALL, mask_kl=mask_kl, rngs=nnx.Rngs(0))
        graphdef, params = nnx.split(model)

        def loss(params):
            output = nnx.merge(graphdef, params)(images, key=Recorded(draws), trajectory=True)
            return output.terms["kl_mask"].sum(), output

        grads, output = jax.jit(jax.grad(loss, has_aux=True))(params)
        attention = np.maximum(output.trajectory["attention"][0][0], 1e-5)
        decoded = np.maximum(output.masks, 1e-5)
        expected = scipy.stats.entropy(attention, decoded, axis=1).sum(axis=(1, 2))
        np.testing.assert_allclose(output.terms["kl_mask"], expected, rtol=1e-3)
        return np.abs(grads["decoder"]["out"]["kernel"][...]).max()

    assert slopes("attention") == 0
    assert slopes("both") > 0


@pytest.mark.parametrize("size", [32, 48, 64, 96, 128, 256])
def test_sizes_that_fit(size):
    widths = genesis_v2.unet_widths(size, 8)
    assert len(widths) == int(np.log2(size)) - 1
    assert widths[0] == 8
    assert widths[-3:] == [16] * 3


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"image_size": 16}, "image_size=16 must be at least 32"),
        ({"image_size": 35}, "multiple of 16"),
        ({"image_size": 136}, "multiple of 32"),
        ({"num_slots": 1}, "num_slots=1"),
        ({"num_slots": 1025}, "num_slots=1025 must be at most 1024"),
        ({"features": 12}, "features=12 must be a multiple of num_groups=8"),
        ({"std": 0.0}, "std=0.0 must be positive"),
        ({"kernel": "box"}, "kernel='box' is unknown; it is one of gaussian"),
        ({"prior": "none"}, "prior='none' is unknown; it is one of autoregressive"),
        ({"mask_kl": "masks"}, "mask_kl='masks' is unknown; it is one of none"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(chosen, message):
    with pytest.raises(ValueError, match=message) as error:
        nnx.eval_shape(lambda: genesis_v2.Model(**{**SMALL, **chosen}, rngs=nnx.Rngs(0)))
    assert "\n" not in str(error.value)
