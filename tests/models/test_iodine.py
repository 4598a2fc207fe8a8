"""What IODINE promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers import precision
from akorn_jax.models import iodine
from tests.parity.tensors import Recorded

B, K, T, Z, SIZE = 2, 3, 3, 4, 8
SIZES = {
    "image_size": SIZE,
    "num_slots": K,
    "slot_size": Z,
    "channels": 4,
    "hidden_size": 6,
    "num_iterations": T,
}
KEY = jax.random.key(0)


def make(**chosen):
    """A model with random numbers in place of initial ones, which take longer to compile."""
    rng = np.random.default_rng(0)
    shapes = nnx.eval_shape(lambda: iodine.Model(**{**SIZES, **chosen}, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(shapes)
    numbers = jax.tree.map(lambda a: jnp.asarray(np.float32(0.3 * rng.normal(size=a.shape))), state)
    return nnx.merge(graphdef, numbers)


def run(images, noise, *, kl_weight=1.0, **call):
    """A call with given noise, compiled as a whole, once per kind.

    Args:
        images, noise, kl_weight: traced.
        call: the call's other arguments.
    """
    return compiled(tuple(call.items()))(images, noise, np.float32(kl_weight))


@functools.cache
def compiled(call):
    model = make()

    def forward(images, noise, kl_weight):
        return model(images, key=Recorded([noise]), kl_weight=kl_weight, **dict(call))

    return jax.jit(forward)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((B, SIZE, SIZE, 3), np.float32)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(2).normal(size=(T, B, K, Z)).astype(np.float32)


@pytest.fixture(scope="module")
def output(images, noise):
    return run(images, noise, trajectory=True)


def test_masks_are_a_mixture(output):
    assert output.masks.shape == (B, K, SIZE, SIZE)
    assert output.patches.shape == (B, K, SIZE, SIZE, 3)
    assert output.slots.shape == (B, K, Z)
    assert {name: term.shape for name, term in output.terms.items()} == {"nll": (B,), "kl": (B,)}
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)
    mixed = np.einsum("bkhw,bkhwc->bhwc", output.masks, output.patches)
    np.testing.assert_allclose(output.recon, mixed, atol=1e-6)
    (masks,) = output.trajectory["masks"]
    assert masks.shape == (T, B, K, SIZE, SIZE)
    np.testing.assert_array_equal(masks[-1], output.masks)
    assert np.abs(masks[0] - masks[-1]).max() > 1e-3, "refinement changes masks"


def test_permuting_noise_permutes_slots(images, noise, output):
    """Slots differ by their noise alone."""
    order = np.array([2, 0, 1])
    permuted = run(images, noise[:, :, order], trajectory=True)
    for name in ("masks", "patches", "slots"):
        expected = np.asarray(getattr(output, name))[:, order]
        np.testing.assert_allclose(getattr(permuted, name), expected, atol=2e-4)
    for name in ("nll", "kl"):
        np.testing.assert_allclose(permuted.terms[name], output.terms[name], rtol=1e-4)


def test_inner_gradients_of_an_image_depend_on_others_only_in_a_batch_mean(images, noise):
    """Alone, an image has gradients twice as large unless their divisor is given."""
    mean, fixed = make(), make(gradient_batch=8)
    lam = np.random.default_rng(4).normal(size=(B, K, 2 * Z)).astype(np.float32)

    @jax.jit
    def gradients(lam):
        together = [m.differentiate(images, lam, noise[0], 1.0)[1] for m in (mean, fixed)]
        alone = [m.differentiate(images[:1], lam[:1], noise[0, :1], 1.0)[1] for m in (mean, fixed)]
        return together, alone

    together, alone = gradients(lam)
    for factor, many, one in zip((B, 1), together, alone, strict=True):
        for a, b in zip(many, one, strict=True):
            np.testing.assert_allclose(factor * a[:1], b, rtol=1e-4, atol=1e-4)


def test_the_released_tiling_mixes_images(images):
    """Slot k of image b sees image (b K + k) mod B."""
    maps = np.zeros((B, K, SIZE, SIZE), np.float32)
    means = np.zeros((*maps.shape, 3), np.float32)
    lam = np.zeros((B, K, 2 * Z), np.float32)
    decoded = iodine.Decoded(None, means, maps, maps, None, None)
    gradients = iodine.Gradients(means, maps, lam)
    released, fixed = make(released_tiling=True), make()

    @jax.jit
    def seen(images):
        inputs = (m.refinement_inputs(images, lam, decoded, gradients) for m in (released, fixed))
        return [maps[..., :3] for maps, _ in inputs]

    released, fixed = seen(images)
    np.testing.assert_array_equal(released, images[np.array([[0, 1, 0], [1, 0, 1]])])
    np.testing.assert_array_equal(fixed, images[np.array([[0, 0, 0], [1, 1, 1]])])


def test_no_gradient_passes_an_inner_gradient(images, noise):
    model = make()

    def total(lam):
        _, gradients = model.differentiate(images, lam, noise[0], 1.0)
        return sum(jnp.sum(g**2) for g in gradients)

    lam = jnp.full((B, K, 2 * Z), 0.3)
    value, gradient = jax.jit(jax.value_and_grad(total))(lam)
    assert value > 0
    assert not gradient.any()


def test_inner_gradients_are_those_of_the_loss(images, noise):
    """By central differences of the batch mean, in one random direction."""
    model = make()
    rng = np.random.default_rng(3)
    lam = jnp.float32(rng.normal(size=(B, K, 2 * Z)))
    direction = jnp.float32(rng.normal(size=lam.shape))

    @jax.jit
    def loss(lam):
        decoded = model.decode(images, lam, noise[0])
        return jnp.mean(decoded.nll + 0.5 * decoded.kl)

    _, gradients = jax.jit(model.differentiate)(images, lam, noise[0], 0.5)
    step = 1e-2
    slope = (loss(lam + step * direction) - loss(lam - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradients.lam * direction), slope, rtol=1e-2)


def test_inner_gradients_that_are_not_finite_are_not_hidden(images, noise):
    """The loss is finite, its gradient is not, and so is nothing after it."""
    once = run(images, noise[:1], num_iterations=1, kl_weight=np.inf)
    assert np.isfinite(once.terms["nll"]).all()
    twice = run(images, noise, kl_weight=np.inf, trajectory=True)
    assert np.isnan(twice.terms["nll"]).all()
    assert np.isnan(twice.masks).all()
    assert np.isfinite(twice.trajectory["masks"][0][0]).all(), "the masks before it"


def test_slots_and_iterations_are_chosen_at_the_call(images):
    noise = np.zeros((2, B, 5, Z), np.float32)
    assert run(images, noise, num_slots=5, num_iterations=2).masks.shape == (B, 5, SIZE, SIZE)


def test_products_may_be_bfloat16(images, noise, output):
    """What is random, normalised or compared is float32 all the same."""
    graphdef, params = nnx.split(make())

    @jax.jit
    def forward(params):
        model = nnx.merge(graphdef, precision.cast(params, "bfloat16"))
        return model(images, key=Recorded([noise]))

    half = forward(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(half.recon, output.recon, atol=0.1)


def test_samples_are_scenes():
    model = make()
    scenes = jax.jit(lambda key: model.sample(2, key=key, num_slots=4))(KEY)
    assert scenes.shape == (2, SIZE, SIZE, 3)
    assert ((scenes > 0) & (scenes < 1)).all()
    assert np.abs(scenes[0] - scenes[1]).max() > 1e-4


@pytest.mark.parametrize("num_slots", [2, 3, 6])
def test_logsumexp_of_others(num_slots):
    a = 30 * np.random.default_rng(0).normal(size=(2, num_slots, 5)).astype(np.float32)
    ours = iodine.logsumexp_of_others(jnp.asarray(a))
    for k in range(num_slots):
        others = np.float64(np.delete(a, k, axis=1))
        np.testing.assert_allclose(ours[:, k], np.log(np.exp(others).sum(axis=1)), rtol=1e-5)


@pytest.mark.parametrize(("chosen", "gain"), [({}, 0.02), ({"init_gain": 1.0}, 1.0)])
def test_initial_posterior_and_weights(chosen, gain):
    sizes = {**SIZES, **chosen, "slot_size": 200, "hidden_size": 300}

    @jax.jit
    def initial():
        model = iodine.Model(**sizes, rngs=nnx.Rngs(0))
        return model.posterior[...], model.refinement.out.kernel[...]

    posterior, kernel = initial()
    np.testing.assert_array_equal(posterior, [0] * 200 + [1] * 200)
    np.testing.assert_allclose(np.std(kernel), gain * (2 / (300 + 400)) ** 0.5, rtol=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_slots": 1}, "num_slots=1: a slot is judged by what the others explain"),
        ({"num_iterations": 0}, "num_iterations=0: slots need at least 1 iteration"),
    ],
)
def test_refuses(images, call, message):
    with pytest.raises(ValueError, match=message):
        make()(images, key=KEY, **call)
    with pytest.raises(ValueError, match=message):
        make(**call)


def test_refuses_images_of_another_size_and_no_randomness(images):
    with pytest.raises(ValueError, match="image_size to what the data has"):
        make()(images[:, :6], key=KEY)
    with pytest.raises(ValueError, match="pass key="):
        make()(images)
