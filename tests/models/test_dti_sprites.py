"""Laws of layered sprites; parity is in tests/parity/test_dti_sprites.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.transformations import position
from akorn_jax.models import dti_sprites
from akorn_jax.models.dti_sprites import Layers

L, K, B, H = 3, 4, 2, 6
SMALL = {
    "image_size": 16,
    "num_sprites": 2,
    "num_layers": 2,
    "sprite_size": 8,
    "mask_std": 2.0,
    "encoder_channels": (4, 4),
    "hidden_size": 8,
}


def model(**fields):
    return dti_sprites.Model(**{**SMALL, **fields}, rngs=nnx.Rngs(0))


def images(n=3):
    return jnp.asarray(np.random.default_rng(1).random((n, 16, 16, 3), np.float32))


def call(made, **options):
    """A compiled call, which leaves the model as it is."""
    graphdef, state = nnx.split(made)
    return jax.jit(lambda state: nnx.merge(graphdef, state, copy=True)(images(), **options))(state)


@pytest.fixture(scope="module")
def scene():
    """Random candidates, a background, and a random order."""
    rng = np.random.default_rng(0)
    random = lambda *shape: jnp.asarray(rng.random(shape, np.float32))  # noqa: E731
    order = np.zeros((1 + L, 1 + L, B), np.float32)
    order[1:, 0] = 1
    for i in range(1, 1 + L):
        for j in range(1, i):
            order[i, j] = rng.random(B)
            order[j, i] = 1 - order[i, j]
    candidates = Layers(random(L, K, B, H, H, 3), random(L, K, B, H, H))
    return random(B, H, H, 3), candidates, random(B, H, H, 3), jnp.asarray(order)


def compose(candidates, choice, background, order):
    """The image of chosen candidates, from the definition; -1 is an empty layer."""
    rgb, masks = [background], [jnp.ones((B, H, H))]
    for l in range(L):
        shown = choice[l] >= 0
        k, b = np.maximum(choice[l], 0), np.arange(B)
        rgb.append(candidates.rgb[l, k, b])
        masks.append(candidates.masks[l, k, b] * shown[:, None, None])
    image = 0
    for i in range(1 + L):
        visible = masks[i]
        for j in range(1 + L):
            visible = visible * (1 - order[j, i][:, None, None] * masks[j])
        image = image + visible[..., None] * rgb[i]
    return image


def test_each_choice_is_the_best_with_the_others_fixed(scene):
    """The errors are those of the composed images, and the choices their smallest."""
    target, candidates, background, order = scene
    penalty = jnp.array([0.0, 1e-3, 2e-3, jnp.inf])
    choices, errors = dti_sprites.choose(
        *(target, candidates, background, order), penalty=penalty, num_sweeps=2
    )
    current = np.full((L, B), -1)
    for step, l in enumerate([*range(L)] * 2):
        expected = np.zeros((K, B))
        for k in range(K):
            tried = current.copy()
            tried[l] = k
            composed = compose(candidates, tried, background, order)
            expected[k] = np.mean((target - composed) ** 2, axis=(1, 2, 3)) + penalty[k]
        np.testing.assert_allclose(errors[step], expected, rtol=1e-4)
        current[l] = np.argmin(expected, axis=0)
    np.testing.assert_array_equal(choices, current)


def test_a_certain_order_is_alpha_compositing():
    masks = jnp.asarray(np.random.default_rng(0).random((1 + L, B, H, H), np.float32)).at[0].set(1)
    order = jnp.asarray(np.tri(1 + L, k=-1, dtype=np.float32))[..., None].repeat(B, -1)
    shown = dti_sprites.visibility(masks, order) * masks
    expected = masks[1] * (1 - masks[2]) * (1 - masks[3])
    np.testing.assert_allclose(shown[1], expected, rtol=1e-5)
    np.testing.assert_allclose(shown.sum(0), 1, atol=1e-6)


def test_a_new_sprite_covers_half_the_canvas():
    placed = position(jnp.ones((8, 8, 1)), jnp.zeros(3), (32, 32), "zeros")[..., 0]
    np.testing.assert_allclose(placed.sum(), 16 * 16, rtol=1e-5)
    shrunk = position(jnp.ones((8, 8, 1)), jnp.array([9.0, 0, 0]), (32, 32), "zeros")
    assert shrunk.sum() < 1
    largest = position(jnp.ones((8, 8, 1)), jnp.array([-9.0, 0, 0]), (32, 32), "zeros")
    np.testing.assert_allclose(largest.sum(), 32 * 32, rtol=0.15)  # its border fades


@functools.cache
def gradients(learn):
    """The output in training, and the gradients by path."""
    made = model()
    made.layer_transformations.regressors["color"].biases[-1][1] = jnp.full(6, -0.5)
    graphdef, params, rest = nnx.split(made, nnx.Param, ...)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(params):
        made = nnx.merge(graphdef, params, rest, copy=True)
        output = made(images(), key=jax.random.key(0), train=True, learn_sprites=learn)
        return output.terms["mse"].mean(), output

    grads, output = run(params)
    return output, nnx.merge(graphdef, grads, rest)


def test_sprites_that_are_not_learned_get_no_gradient_and_no_layer_is_empty():
    output, grads = gradients(0.0)
    assert not grads.sprites[...].any()
    assert not grads.masks[...].any()
    assert grads.background[...].any()
    np.testing.assert_array_equal(output.presence, 1)


def test_only_chosen_sprites_get_a_gradient():
    output, grads = gradients(1.0)
    chosen = output.slots[:, 1:, :-1].any((0, 1))  # [S]
    moved = np.abs(grads.masks[...]).sum((1, 2)) > 0
    np.testing.assert_array_equal(moved, chosen)
    np.testing.assert_allclose(output.slots[:, 1:].sum(-1), 1)


def test_evaluation_needs_no_key_and_training_does():
    made = model()
    output = call(made)
    shown = jnp.sum(output.masks[..., None] * output.patches, axis=1)
    np.testing.assert_allclose(shown, output.recon, atol=1e-5)
    with pytest.raises(ValueError, match="pass key="):
        call(made, train=True)


def test_deformations_wait():
    """Their weights count in the L2 term, and their parameters act, from `deform` on."""
    made = model()
    made.sprite_transformations.regressors["projective"].biases[-1][...] += 0.3
    graphdef, state = nnx.split(made)

    def run(remembered, deform):
        made = nnx.merge(graphdef, state, copy=True)
        made.deforms[...] = remembered
        return made(images(), learn_sprites=0.0, deform=deform)

    told = jax.jit(lambda deform: run(1.0, deform))
    untold = jax.jit(lambda remembered: run(remembered, None))
    off, on = told(0.0), told(1.0)
    assert np.abs(off.recon - on.recon).max() > 1e-3
    assert on.terms["l2"][0] > off.terms["l2"][0]
    np.testing.assert_allclose(untold(1.0).recon, on.recon, atol=1e-6)
    np.testing.assert_allclose(untold(0.0).recon, off.recon, atol=1e-6)


def test_without_background_or_empty_sprite():
    made = model(background=False, empty_sprite=False, occlusion="fixed", mask_noise=0.0)
    output = call(made, train=True)  # no noise, no key
    assert output.slots.shape == (3, 3, 2)
    np.testing.assert_array_equal(output.presence, 1)
    np.testing.assert_array_equal(output.patches[:, 0], 0)
    np.testing.assert_allclose(output.masks.sum(1), 1, atol=0.05)  # the soft clamp leaves [0, 1]
    made.init_background(images())
    assert made.background is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"occlusion": "learned"}, "occlusion='learned' is unknown"),
        ({"layer_transformations": ("color",)}, "add 'position'"),
        ({"sprite_transformations": ("shear",)}, "transformation 'shear' is unknown"),
        ({"num_sweeps": 0}, "num_sweeps=0"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: model(**fields))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="images are 8x8"):
        model()(jnp.zeros((1, 8, 8, 3)))


@pytest.mark.slow
def test_a_published_step_fits_into_3_gb():
    """32 images of 128 x 128 pixels, ten sprites in ten layers, by the compiler's plan."""
    made = nnx.eval_shape(lambda: dti_sprites.Model(rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(made, nnx.Param, ...)

    def loss(params, rest, images, key):
        made = nnx.merge(graphdef, params, rest, copy=True)
        output = made(images, key=key, train=True)
        return output.terms["mse"].mean() + 1e-6 * output.terms["l2"].mean()

    batch = jax.ShapeDtypeStruct((32, 128, 128, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    compiled = jax.jit(jax.grad(loss)).lower(params, rest, batch, key).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 3e9
