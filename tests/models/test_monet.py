"""MONet: masks share out pixels, K is free, terms are the paper's, samples are images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from akorn_jax.models import monet

KEY = jax.random.key(0)
SMALL = {
    "image_size": 16,
    "num_slots": 3,
    "latent_size": 2,
    "channels": 2,
    "num_levels": 3,
    "component_channels": 4,
}


@pytest.fixture(scope="module")
def model():
    return monet.Model(**SMALL, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(KEY, (2, 16, 16, 3))


@pytest.fixture(scope="module")
def call(model, images):
    """A compiled call by the number of slots."""
    graphdef, state = nnx.split(model)

    def forward(state, key, use_mean, num_slots):
        return nnx.merge(graphdef, state)(
            images, key=key, num_slots=num_slots, use_mean=use_mean, train=True, trajectory=True
        )

    compiled = jax.jit(forward, static_argnums=3)
    return lambda key=KEY, use_mean=False, num_slots=None: compiled(state, key, use_mean, num_slots)


def test_output(call, images):
    output = call()
    assert output.masks.shape == (2, 3, 16, 16)
    assert output.patches.shape == (2, 3, 16, 16, 3)
    assert output.slots.shape == (2, 3, 2)
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, rtol=1e-5)
    expected = (output.masks[..., None] * output.patches).sum(axis=1)
    np.testing.assert_allclose(output.recon, expected, rtol=1e-5)
    assert set(output.terms) == {"nll", "kl", "kl_mask"}
    for term in output.terms.values():
        assert term.shape == (2,)


def test_likelihood_is_a_mixture_per_channel_with_another_width_for_the_first(call, images):
    output = call()
    std = np.array([0.09, 0.15, 0.15]).reshape(1, 3, 1, 1, 1)
    density = scipy.stats.norm.pdf(images[:, None], output.patches, std)
    mixture = (np.asarray(output.masks)[..., None] * density).sum(axis=1)
    np.testing.assert_allclose(output.terms["nll"], -np.log(mixture).sum((1, 2, 3)), rtol=1e-4)


def test_divergences_are_not_negative(call):
    output = call()
    assert (output.terms["kl"] > 0).all()
    assert (output.terms["kl_mask"] > 0).all()


def test_means_are_repeatable_and_draws_are_not(call):
    other = jax.random.key(1)
    assert (call().slots != call(other).slots).any()
    np.testing.assert_array_equal(call(use_mean=True).slots, call(other, use_mean=True).slots)


def test_attention_draws_nothing_and_more_slots_divide_what_was_left(call):
    few, many = call(num_slots=3), call(jax.random.key(1), num_slots=5)
    assert many.masks.shape[1] == 5
    np.testing.assert_allclose(few.masks[:, :2], many.masks[:, :2], rtol=1e-4)
    np.testing.assert_allclose(few.masks[:, 2], many.masks[:, 2:].sum(axis=1), rtol=1e-4, atol=1e-6)


def test_samples_are_images_and_depend_on_the_key(model):
    draw = jax.jit(lambda key: model.sample(3, key=key, num_slots=4))
    a, b = draw(KEY), draw(jax.random.key(1))
    assert a.shape == (3, 16, 16, 3)
    assert ((a >= 0) & (a <= 1)).all()
    assert (a != b).any()


def test_gradients_reach_every_parameter(model, images):
    graphdef, params = nnx.split(model)

    @jax.jit
    def slopes(params):
        def loss(params):
            return sum(
                t.mean() for t in nnx.merge(graphdef, params)(images, key=KEY).terms.values()
            )

        return jax.grad(loss)(params)

    for path, slope in nnx.to_flat_state(slopes(params)):
        assert jnp.isfinite(slope[...]).all(), path
        assert (slope[...] != 0).any(), path


def test_a_call_with_one_slot_is_refused():
    model = nnx.eval_shape(lambda: monet.Model(**SMALL, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="num_slots=1 must be at least 2"):
        model.attend(jnp.zeros((1, 16, 16, 3)), num_slots=1)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"num_slots": 1}, "num_slots=1"),
        ({"background_std": 0.0}, "background_std=0.0 must be positive"),
        ({"foreground_std": -1.0}, "foreground_std=-1.0 must be positive"),
        ({"num_levels": 4, "image_size": 15}, r"image_size=\(15, 15\) is too small"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(chosen, message):
    with pytest.raises(ValueError, match=message) as error:
        nnx.eval_shape(lambda: monet.Model(**{**SMALL, **chosen}, rngs=nnx.Rngs(0)))
    assert "\n" not in str(error.value)


def test_a_key_is_needed(model, images):
    with pytest.raises(ValueError, match="pass key="):
        model(images)
