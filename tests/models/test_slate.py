"""What SLATE promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.errors import UserError
from akorn_jax.layers.noise import Noise
from akorn_jax.models import slate
from tests.parity.tensors import empty, filled

SIZES = {
    "image_size": 8,
    "num_slots": 3,
    "vocab_size": 7,
    "channels": 8,
    "slot_size": 8,
    "hidden_size": 8,
    "num_blocks": 2,
    "num_heads": 2,
}
KEY = jax.random.key(0)


def make(**chosen):
    return filled(lambda: slate.Model(**{**SIZES, **chosen}, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


def run(model, function, *arrays):
    """`function(model, *arrays)`, compiled as one."""
    graphdef, state = nnx.split(model)
    return jax.jit(lambda state, *args: function(nnx.merge(graphdef, state), *args))(state, *arrays)


def call(model, images, *, key=None, slots=None, temperature=1.0, **static):
    graphdef, state = nnx.split(model)
    return compiled(graphdef, tuple(static.items()))(state, images, key, slots, temperature)


@functools.cache
def compiled(graphdef, static):
    def forward(state, images, key, slots, temperature):
        model = nnx.merge(graphdef, state)
        return model(images, key=key, slots=slots, temperature=temperature, **dict(static))

    return jax.jit(forward)


@pytest.fixture(scope="module")
def evaluated(model, images):
    return call(model, images, key=KEY)


def test_output(evaluated):
    assert evaluated.recon.shape == (2, 8, 8, 3)
    assert evaluated.masks.shape == (2, 3, 8, 8)
    assert evaluated.slots.shape == (2, 3, 8)
    assert evaluated.logits.shape == (2, 4, 7)
    assert {name: term.shape for name, term in evaluated.terms.items()} == {
        "mse": (2,),
        "cross_entropy": (2,),
    }
    assert evaluated.masks.min() >= 0
    np.testing.assert_allclose(evaluated.masks.sum(axis=1), 1, atol=1e-6)


def test_terms_are_sums_over_pixels_and_tokens(evaluated, model, images):
    errors = np.square(images - evaluated.recon)
    np.testing.assert_allclose(evaluated.terms["mse"], errors.sum((1, 2, 3)), rtol=1e-5)
    logits = run(model, lambda model, images: model.dvae.encode(images), images)
    tokens = np.argmax(logits, axis=-1).reshape(2, 4)
    log_probs = np.asarray(jax.nn.log_softmax(evaluated.logits))
    chosen = np.take_along_axis(log_probs, tokens[..., None], axis=-1)
    np.testing.assert_allclose(
        evaluated.terms["cross_entropy"], -chosen.sum(axis=(1, 2)), rtol=1e-5
    )


def test_each_term_trains_its_own_part(model, images):
    graphdef, state = nnx.split(model)

    @jax.jit
    def gradients(state, weights):
        def loss(state):
            terms = nnx.merge(graphdef, state)(images, key=KEY, train=True).terms
            return sum(weights[name] * terms[name].sum() for name in weights)

        return jax.grad(loss)(state)

    for name in ("mse", "cross_entropy"):
        grads = gradients(state, {term: float(term == name) for term in ("mse", "cross_entropy")})
        largest = {part: max(abs(g).max() for g in jax.tree.leaves(grads[part])) for part in grads}
        vae = largest.pop("dvae")
        assert (vae > 0) == (name == "mse")
        assert all((value > 0) == (name == "cross_entropy") for value in largest.values()), largest


def test_the_temperature_moves_the_vae_alone(model, images):
    """And may be traced: both calls are one program."""
    warm, cold = (call(model, images, key=KEY, train=True, temperature=t) for t in (1.0, 0.1))
    assert np.abs(warm.recon - cold.recon).max() > 1e-3
    np.testing.assert_array_equal(warm.terms["cross_entropy"], cold.terms["cross_entropy"])
    np.testing.assert_array_equal(warm.slots, cold.slots)


def test_hard_draws_are_one_hot_with_the_relaxed_gradient():
    log_probs = jax.nn.log_softmax(np.random.default_rng(0).normal(size=(5, 4)).astype("f4"))
    weights = np.random.default_rng(1).normal(size=(5, 4)).astype("f4")

    def value(log_probs, hard):
        z = slate.gumbel_softmax(log_probs, 0.5, hard, Noise(KEY))
        return jnp.sum(z * weights), z

    value_and_grad = jax.jit(jax.value_and_grad(value, has_aux=True))
    (_, soft), soft_grad = value_and_grad(log_probs, False)
    (_, hard), hard_grad = value_and_grad(log_probs, True)
    np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(hard, soft == soft.max(axis=-1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(hard_grad, soft_grad)


def test_draws_follow_the_distribution():
    log_probs = jnp.log(jnp.asarray([0.1, 0.2, 0.7]))
    z = slate.gumbel_softmax(jnp.broadcast_to(log_probs, (20_000, 3)), 0.5, True, Noise(KEY))
    np.testing.assert_allclose(z.mean(axis=0), [0.1, 0.2, 0.7], atol=0.015)


def test_slots_are_a_set(model, images):
    slots = np.random.default_rng(1).normal(size=(2, 3, 8)).astype("f4")
    order = np.array([2, 0, 1])
    straight, permuted = (call(model, images, slots=s) for s in (slots, slots[:, order]))
    np.testing.assert_allclose(permuted.masks, straight.masks[:, order], atol=1e-5)
    np.testing.assert_allclose(permuted.slots, straight.slots[:, order], atol=1e-5)
    np.testing.assert_allclose(permuted.logits, straight.logits, atol=1e-5)


@pytest.mark.parametrize("num_slot_heads", [1, 2])
def test_slots_and_iterations_are_chosen_at_the_call(images, num_slot_heads):
    model = make(num_slot_heads=num_slot_heads)
    output = call(model, images, key=KEY, num_slots=5, num_iterations=2, trajectory=True)
    assert output.masks.shape == (2, 5, 8, 8)
    (attention,) = output.trajectory["attention"]
    assert attention.shape == (2, 2, 5, 2, 2)  # iterations, images, slots, tokens
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)
    np.testing.assert_array_equal(output.masks[:, :, ::4, ::4], attention[-1])


def test_masks_are_attention_at_the_size_of_the_image():
    maps = np.random.default_rng(0).dirichlet(np.ones(3), (2, 3, 2)).astype("f4")
    maps = np.moveaxis(maps, -1, 1)  # [B, K, h, w]
    nearest, bilinear = (np.asarray(slate.upsample(maps, k)) for k in ("nearest", "bilinear"))
    for masks in (nearest, bilinear):
        assert masks.shape == (2, 3, 12, 8)
        np.testing.assert_allclose(masks.sum(axis=1), 1, atol=1e-6)
    for i, j in np.ndindex(4, 4):
        np.testing.assert_array_equal(nearest[:, :, i::4, j::4], maps)
    # Half-pixel centres: a token's middle lies between its second and third pixel.
    middle = (bilinear[:, :, 1::4] + bilinear[:, :, 2::4]) / 2
    middle = (middle[..., 1::4] + middle[..., 2::4]) / 2
    inner = np.pad(np.abs(middle - maps) < 0.13, ((0, 0),) * 4)
    assert inner.all()


def test_generation_is_the_most_probable_token_after_those_before(model, images, evaluated):
    def generate(model, slots):
        tokens = model.generate(slots)
        embedded = model.embed_tokens(tokens)[:, :-1]
        logits = model.head(model.decoder(embedded, model.slots_to_memory(slots)))
        return tokens, jnp.argmax(logits, axis=-1), model.decode_tokens(tokens)

    tokens, most_probable, picture = run(model, generate, evaluated.slots)
    assert tokens.shape == (2, 4)
    np.testing.assert_array_equal(most_probable, tokens)
    output = call(model, images, key=KEY, decode="autoregressive")
    np.testing.assert_allclose(output.recon, picture, atol=1e-5)
    np.testing.assert_allclose(output.logits, evaluated.logits, atol=1e-6)


def test_several_slot_heads_of_equal_weights_are_one(model):
    """Softmax over two equal heads halves the attention; their weighted means do not change."""
    one = model.slot_attention
    two = make(num_slot_heads=2).slot_attention
    assert {path for path, _ in nnx.to_flat_state(nnx.state(two))} == {
        path for path, _ in nnx.to_flat_state(nnx.state(one))
    }
    rng = np.random.default_rng(0)
    k, slots = rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 3, 8))
    kernel = rng.normal(size=(8, 4))
    two.to_q.kernel[...] = jnp.asarray(np.concatenate([kernel, kernel], axis=1))
    attention = two.attend(jnp.asarray(slots), jnp.concatenate([k, k], axis=-1))
    np.testing.assert_allclose(attention[:, 0], attention[:, 1], rtol=1e-5)
    logits = np.einsum("bks,bns->bkn", two.norm_slots(jnp.asarray(slots)) @ kernel, k) / 2
    np.testing.assert_allclose(attention.sum(axis=1), jax.nn.softmax(logits, axis=1), atol=1e-5)
    v = rng.normal(size=(2, 6, 8)).astype("f4")
    gathered = two.aggregate(attention, v, None)
    np.testing.assert_allclose(gathered, one.aggregate(attention[:, :1], v, None), atol=1e-5)


def test_computes_in_the_parameters_precision_and_returns_float32(model, images, evaluated):
    graphdef, state = nnx.split(model)
    half = nnx.merge(graphdef, jax.tree.map(jnp.bfloat16, state))
    output = call(half, images, key=KEY, decode="autoregressive")
    assert {a.dtype for a in jax.tree.leaves(output)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(output.masks, evaluated.masks, atol=0.05)


def test_composed_scenes_are_decoded_from_the_library(model, evaluated):
    library = model.library(evaluated.slots, key=KEY)
    assert len(library.counts) == 3
    scenes = run(model, lambda m, library: m.sample(4, key=KEY, library=library), library)
    assert scenes.shape == (4, 8, 8, 3)
    assert scenes.min() >= 0
    assert scenes.max() <= 1
    slots = library.compose(4, 3, Noise(KEY))
    expected = run(model, lambda model, slots: model.decode_tokens(model.generate(slots)), slots)
    np.testing.assert_allclose(scenes, np.clip(expected, 0, 1), atol=1e-5)


# --- weights and errors


def test_parameter_count_is_the_official_one():
    """singhgautam/slate's defaults, for 3D Shapes, counted from its modules."""
    shapes = nnx.eval_shape(lambda: slate.Model(rngs=nnx.Rngs(0)))
    V, d, L, n = 1024, 192, 256, 4
    dvae = 48 * 64 + 6 * 64**2 + 7 * 128 + 64 * V + V  # encoder
    dvae += V * 64 + 2 * 9 * 64**2 + 4 * 64**2 + 2 * 64 * 256  # decoder's convolutions
    dvae += 7 * 128 + 2 * 512 + 64 * 3 + 3
    slots = 2 * d + 2 * d + 2 * (d * d + d)  # Gaussian, norm and MLP in front
    slots += 6 * d + 3 * d * d + 6 * d * d + 6 * d + 2 * (d * d + d)
    block = 6 * d + 8 * d * d + 8 * d * d + 5 * d
    total = dvae + slots + n * block + 2 * d + (V + 1) * d + (L + 1) * d + d * d + d * V
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes, nnx.Param))) == total


@pytest.mark.parametrize("dialect", ["official", "hhousen"])
def test_official_names_return(model, dialect):
    official = to_official(model, dialect)
    other = empty(make)
    load_official(other, official)
    for a, b in zip(*(jax.tree.leaves(nnx.state(m)) for m in (model, other)), strict=True):
        np.testing.assert_array_equal(a, b)
    encoder = "slot_attn.input_mlp.0.bias" if dialect == "hhousen" else "slot_attn.mlp.0.bias"
    assert encoder in official
    assert "tf_dec.blocks.1.self_attn_mask" in official


def test_refuses_another_causal_mask(model):
    official = to_official(model)
    official["tf_dec.blocks.0.self_attn_mask"] = np.zeros((4, 4), bool)
    with pytest.raises(UserError, match=r"blocks.0.self_attn_mask is not the causal mask"):
        load_official(model, official)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 35}, "image_size=35 is not divisible by patch_size=4"),
        ({"num_heads": 3}, "channels=8 is not divisible by num_heads=3"),
        ({"num_slot_heads": 3}, "slot_size=8 is not divisible by num_slot_heads=3"),
        ({"dropout": 1.5}, "dropout=1.5 must be in"),
        ({"gradient": "none"}, "gradient='none' is unknown"),
    ],
)
def test_refuses_sizes(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decode": "vae"}, "decode='vae' is unknown; it is one of dvae, autoregressive"),
        ({"upsampling": "cubic"}, "upsampling='cubic' is unknown"),
        ({"key": None}, "pass key="),
    ],
)
def test_refuses_options(model, images, wrong, message):
    with pytest.raises(ValueError, match=message):
        model(images, **{"key": KEY, **wrong})


def test_refuses_images_of_another_size(model, images):
    with pytest.raises(ValueError, match="image_size to what the data has"):
        model(images[:, :4, :4], key=KEY)
