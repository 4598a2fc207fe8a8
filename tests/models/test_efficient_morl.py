"""What Efficient MORL promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers import precision
from akorn_jax.models import efficient_morl
from tests.parity.tensors import Recorded

B, K, I, L, Z, H, W = 2, 3, 2, 3, 4, 6, 8
SIZES = {
    "image_size": 8,
    "num_slots": K,
    "slot_size": Z,
    "channels": 4,
    "num_layers": L,
    "num_iterations": I,
}
KEY = jax.random.key(0)


def make(**chosen):
    """A model with random numbers in place of initial ones, which take longer to compile."""
    rng = np.random.default_rng(0)
    shapes = nnx.eval_shape(lambda: efficient_morl.Model(**{**SIZES, **chosen}, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(shapes)
    numbers = jax.tree.map(lambda a: jnp.asarray(np.float32(0.3 * rng.normal(size=a.shape))), state)
    return nnx.merge(graphdef, numbers)


def run(images, noise, *, kl_weight=1.0, traced=None, model=(), **call):
    """A call with given noise, compiled as a whole, once per kind.

    Args:
        images, noise, kl_weight: traced.
        traced: the number of iterations, as a traced number.
        model: items of `make`'s arguments.
        call: the call's other arguments.
    """
    numbers = {"kl_weight": np.float32(kl_weight)}
    if traced is not None:
        numbers["num_iterations"] = np.float32(traced)
    return compiled(model, tuple(call.items()))(images, noise, numbers)


@functools.cache
def compiled(chosen, call):
    model = make(**dict(chosen))

    def forward(images, noise, numbers):
        return model(images, key=Recorded(noise), trajectory=True, **numbers, **dict(call))

    return jax.jit(forward)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((B, H, W, 3), np.float32)


def draw(leads, batch=B, slots=K):
    """Noise of the initial slots, the layers, the prior's conditions and the refinements."""
    rng = np.random.default_rng(2)
    return tuple(rng.normal(size=(*lead, batch, slots, Z)).astype(np.float32) for lead in leads)


@pytest.fixture(scope="module")
def noise():
    return draw([(), (L,), (L - 1,), (I,)])


@pytest.fixture(scope="module")
def output(images, noise):
    return run(images, noise)


def test_masks_are_a_mixture(output):
    """Also of images that are not square, and not of the size that samples have."""
    assert output.masks.shape == (B, K, H, W)
    assert output.patches.shape == (B, K, H, W, 3)
    assert output.slots.shape == (B, K, Z)
    shapes = {name: term.shape for name, term in output.terms.items()}
    assert shapes == {"nll": (B,), "kl": (B,), "nll_last": (B,)}
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)
    mixed = np.einsum("bkhw,bkhwc->bhwc", output.masks, output.patches)
    np.testing.assert_allclose(output.recon, mixed, atol=1e-6)


def test_trajectory(output):
    (masks,), (attention,) = output.trajectory["masks"], output.trajectory["attention"]
    assert masks.shape == (I + 1, B, K, H, W)
    np.testing.assert_array_equal(masks[-1], output.masks)
    assert np.abs(masks[0] - masks[-1]).max() > 1e-3, "refinement changes masks"
    assert attention.shape == (L, B, K, H, W)
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)


def test_permuting_noise_permutes_slots(images, noise, output):
    """Slots differ by their noise alone."""
    order = np.array([2, 0, 1])
    permuted = run(images, tuple(draws[..., order, :] for draws in noise))
    for name in ("masks", "patches", "slots"):
        expected = np.asarray(getattr(output, name))[:, order]
        np.testing.assert_allclose(getattr(permuted, name), expected, atol=2e-4)
    for name, term in output.terms.items():
        np.testing.assert_allclose(permuted.terms[name], term, rtol=1e-4)


def test_a_traced_number_of_iterations_is_that_number(images, noise, output):
    """One program for a curriculum; more than the model's own number is that number."""
    *others, refinements = noise
    once = run(images, (*others, refinements[:1]), num_iterations=1)
    for traced, expected in ((1, once), (I, output), (I + 5, output)):
        ours = run(images, noise, traced=traced)
        for name, term in expected.terms.items():
            np.testing.assert_allclose(ours.terms[name], term, rtol=1e-5)
        np.testing.assert_allclose(ours.masks, expected.masks, atol=1e-5)
        (masks,), (shorter,) = ours.trajectory["masks"], expected.trajectory["masks"]
        assert masks.shape == (I + 1, B, K, H, W)
        repeated = np.minimum(np.arange(I + 1), len(shorter) - 1)
        np.testing.assert_allclose(masks, np.asarray(shorter)[repeated], atol=1e-5)


def test_without_refinement_the_hierarchy_decides(images, noise):
    """And all weight, 3, is on its one scene."""
    *others, refinements = noise
    output = run(images, (*others, refinements[:0]), num_iterations=0)
    np.testing.assert_allclose(output.terms["nll"], 3 * output.terms["nll_last"], rtol=1e-6)


def test_the_inner_gradient_of_an_image_depends_on_others_only_in_a_batch_mean(images, noise):
    """Alone, an image has a gradient twice as large unless its divisor is given."""
    mean, fixed = make(), make(gradient_batch=8)
    epsilon = noise[1][0]
    lam = np.random.default_rng(4).normal(size=(B, K, 2, Z)).astype(np.float32)

    ones = efficient_morl.Weights(1.0, 1.0)

    def no_kl(lam):
        return jnp.zeros(len(lam))

    @jax.jit
    def gradients(lam):
        together, alone = (
            [
                m.differentiate(images[:n], lam[:n], epsilon[:n], no_kl, ones)[1]
                for m in (mean, fixed)
            ]
            for n in (B, 1)
        )
        return together, alone

    for factor, many, one in zip((B, 1), *gradients(lam), strict=True):
        np.testing.assert_allclose(factor * many[:1], one, rtol=1e-4, atol=1e-4)


def test_the_inner_gradient_is_that_of_the_loss(images, noise):
    """By central differences of the batch mean, in one random direction; and it is a constant.

    The KL is the hierarchy's, where the top layer's sample makes the prior of the next.
    """
    model, (_, layers, conditions, _) = make(), noise
    rng = np.random.default_rng(3)
    below, lam, direction = np.split(
        rng.normal(size=(L + 1, B, K, 2, Z)).astype(np.float32), [L - 1, L]
    )

    def kl(lam):
        return model.hierarchical_kl(below, lam, conditions)[0].sum(axis=(0, 2))

    weights = efficient_morl.Weights(0.7, 0.5)

    @jax.jit
    def differentiate(lam):
        def squared(lam):
            decoded, gradient = model.differentiate(images, lam, layers[-1], kl, weights)
            loss = jnp.mean(0.7 * decoded.nll + 0.5 * decoded.kl)
            return jnp.sum(gradient**2), (loss, gradient)

        return jax.grad(squared, has_aux=True)(lam)

    through, (_, gradient) = differentiate(lam[0])
    assert not through.any()
    step = 1e-2 * direction[0]
    ahead, behind = (differentiate(lam[0] + sign * step)[1][0] for sign in (1, -1))
    np.testing.assert_allclose(2 * jnp.sum(gradient * step), ahead - behind, rtol=1e-2)


def test_inner_gradients_that_are_not_finite_are_not_hidden(images, noise):
    """The first loss's gradient is not finite, and so is nothing after it."""
    output = run(images, noise, kl_weight=np.inf)
    assert np.isnan(output.terms["nll"]).all()
    assert np.isnan(output.masks).all()
    assert np.isfinite(output.trajectory["masks"][0][0]).all(), "the masks before it"


def test_layers_and_slots_are_chosen(images):
    """One layer has no prior but N(0, 1)."""
    noise = draw([(), (1,), (0,), (1,)], slots=5)
    output = run(images, noise, model=(("num_layers", 1),), num_slots=5, num_iterations=1)
    assert output.masks.shape == (B, 5, H, W)
    assert np.isfinite(output.terms["kl"]).all()


def test_a_mixture_of_equal_slots_is_a_gaussian(images):
    means = np.broadcast_to(images[:, None] + 0.1, (B, K, H, W, 3))
    logits = np.random.default_rng(0).normal(size=(B, K, H, W)).astype(np.float32)
    gaussian, mixture = (
        jax.jit(make(likelihood=kind).nll)(images, means, logits)
        for kind in ("gaussian", "mixture")
    )
    np.testing.assert_allclose(gaussian, mixture, rtol=1e-5)
    # log 0.1 and half of one squared standard deviation for each number.
    np.testing.assert_allclose(gaussian, H * W * 3 * (np.log(0.1) + 0.5), rtol=1e-4)


def test_products_may_be_bfloat16(images, noise, output):
    """What is random, normalised or compared is float32 all the same."""
    graphdef, params = nnx.split(make())

    @jax.jit
    def forward(params):
        model = nnx.merge(graphdef, precision.cast(params, "bfloat16"))
        return model(images, key=Recorded(noise))

    half = forward(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(half.recon, output.recon, atol=0.1)


def test_samples_are_scenes():
    model = make()
    scenes = jax.jit(lambda key: model.sample(2, key=key, num_slots=4))(KEY)
    assert scenes.shape == (2, 8, 8, 3)
    assert ((scenes > 0) & (scenes < 1)).all()
    assert np.abs(scenes[0] - scenes[1]).max() > 1e-4


@pytest.mark.parametrize(("chosen", "gain"), [({}, 0.02), ({"init_gain": 1.0}, 1.0)])
def test_initial_posterior_and_weights(chosen, gain):
    @jax.jit
    def initial():
        model = efficient_morl.Model(**{**SIZES, **chosen, "slot_size": 100}, rngs=nnx.Rngs(0))
        gru = jnp.concatenate([p.ravel() for p in jax.tree.leaves(nnx.state(model.layer.gru))])
        return model.posterior[...], gru, model.prior.loc.kernel[...]

    posterior, gru, kernel = initial()
    np.testing.assert_array_equal(posterior, [[0] * 100, [1] * 100])
    np.testing.assert_allclose((np.mean(gru), np.std(gru)), (0, 1), atol=0.02)
    np.testing.assert_allclose(np.std(kernel), gain * (2 / (128 + 100)) ** 0.5, rtol=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_slots": 0}, "num_slots=0: the model needs at least 1 slot"),
        ({"num_iterations": -1}, "num_iterations=-1 is negative; 0 leaves out the refinement"),
    ],
)
def test_refuses(images, call, message):
    with pytest.raises(ValueError, match=message):
        make()(images, key=KEY, **call)


def test_the_least_error_is_that_of_the_image_itself():
    images = jax.random.uniform(KEY, (2, 8, 8, 3))
    for likelihood in efficient_morl.LIKELIHOODS:
        model = make(std=0.3, likelihood=likelihood)
        nll = model.nll(images, images[:, None], jnp.zeros((2, 1, 8, 8)))
        np.testing.assert_allclose(nll, model.least_terms["nll_last"], rtol=1e-5)


def test_refuses_other_settings_and_inputs(images):
    with pytest.raises(ValueError, match="likelihood='laplace' is unknown"):
        make(likelihood="laplace")
    with pytest.raises(ValueError, match="num_layers=0: the hierarchy needs at least 1 layer"):
        make(num_layers=0)
    with pytest.raises(ValueError, match=r"the model takes \[B, H, W, 3\]"):
        make()(images[..., :1], key=KEY)
    with pytest.raises(ValueError, match="pass key="):
        make()(images)
