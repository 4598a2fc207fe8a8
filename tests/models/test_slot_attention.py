"""What the two models of Slot Attention promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.errors import UserError
from akorn_jax.models import set_prediction, slot_attention
from tests.parity.tensors import filled

SIZES = {"image_size": 8, "channels": 4, "slot_size": 4, "hidden_size": 4, "num_slots": 3}
KEY = jax.random.key(0)


def make(**chosen):
    arguments = {**SIZES, "decoder": "stationary", **chosen}
    return filled(lambda: slot_attention.Model(**arguments, rngs=nnx.Rngs(0)))


def call(model, images, *, key=None, slots=None, **static):
    graphdef, state = nnx.split(model)
    return compiled(graphdef, tuple(static.items()))(state, images, key, slots)


@functools.cache
def compiled(graphdef, static):
    def forward(state, images, key, slots):
        model = nnx.merge(graphdef, state, copy=True)
        return model(images, key=key, slots=slots, **dict(static))

    return jax.jit(forward)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


def test_masks_are_a_mixture(images):
    output = call(make(), images, key=KEY)
    assert output.masks.shape == (2, 3, 8, 8)
    assert output.recon.shape == (2, 8, 8, 3)
    assert output.slots.shape == (2, 3, 4)
    assert output.masks.min() >= 0
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("train", [False, True])
def test_permuting_slots_permutes_masks(images, train):
    model = make(aggregation="scalar_batch_norm")
    slots = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    order = np.array([2, 0, 1])
    straight = call(model, images, slots=slots, train=train)
    permuted = call(model, images, slots=slots[:, order], train=train)
    np.testing.assert_allclose(permuted.masks, straight.masks[:, order], atol=1e-5)
    np.testing.assert_allclose(permuted.slots, straight.slots[:, order], atol=1e-5)
    np.testing.assert_allclose(permuted.recon, straight.recon, atol=1e-5)


def test_slots_and_iterations_are_chosen_at_the_call(images):
    model = make()
    assert call(model, images, key=KEY, num_slots=5, num_iterations=2).masks.shape == (2, 5, 8, 8)
    one, two = (call(model, images, key=KEY, num_iterations=n).slots for n in (1, 2))
    assert np.abs(one - two).max() > 1e-4


@pytest.mark.parametrize(
    ("decoder", "num_layers", "grid"),
    [("stationary", 3, 8), ("expanding", 2, 2), ("up_convolve", 3, 1)],
)
def test_decoders_draw_the_size_of_the_image(images, decoder, num_layers, grid):
    model = make(decoder=decoder, num_layers=num_layers)
    assert model.decoder.grid_size == grid
    assert call(model, images, key=KEY).recon.shape == images.shape


def test_doubling_puts_the_kernel_on_even_pixels(images):
    """As `torch.nn.ConvTranspose2d(5, stride=2, padding=2, output_padding=1)`."""
    layer = make(decoder="expanding", num_layers=1).decoder.layers[0]
    kernel = np.random.default_rng(0).normal(size=layer.kernel.shape).astype(np.float32)
    layer.kernel[...], layer.bias[...] = kernel, np.zeros(4)
    x = np.zeros((1, 4, 4, 4), np.float32)
    x[0, 1, 2, 3] = 1
    y = np.asarray(layer(x))
    expected = np.zeros((8, 8, 4), np.float32)
    # input (1, 2) is the centre of what lies on output (2, 4); a correlation turns the kernel
    expected[0:5, 2:7] = kernel[::-1, ::-1, 3]
    np.testing.assert_allclose(y[0], expected, atol=1e-6)


def test_kernels_of_one_pixel_make_an_mlp_of_slot_and_position(images):
    """What a pixel shows depends on its place alone, not on how many others are drawn."""
    model, larger = (make(kernel_size=1, image_size=size) for size in (8, 15))
    layers = (*model.decoder.layers, model.decoder.out)
    assert {layer.kernel.shape[:2] for layer in layers} == {(1, 1)}
    slots = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    pictures, logits = model.decoder(slots)
    others, other_logits = larger.decoder(slots)  # every second pixel of 15 is one of 8
    np.testing.assert_allclose(pictures, others[:, :, ::2, ::2], atol=1e-5)
    np.testing.assert_allclose(logits, other_logits[:, :, ::2, ::2], atol=1e-5)
    assert np.abs(pictures[:, :, 0, 0] - pictures[:, :, 3, 5]).max() > 1e-3, "places differ"
    layer = model.decoder.layers[0]
    x = np.random.default_rng(2).normal(size=(2, 3, 5, 4)).astype(np.float32)
    expected = np.einsum("nhwi,io->nhwo", x, layer.kernel[0, 0]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["channel", "map", "none"])
def test_encoder_norms(images, norm):
    model = make(encoder_norm=norm, attention_bias=True, activation="leaky_relu")
    assert np.isfinite(call(model, images, key=KEY).recon).all()
    if norm == "map":
        assert model.encoder.norm.scale.shape == (8, 8, 4)
        model.encoder.norm.scale[...] = np.ones((8, 8, 4))
        model.encoder.norm.bias[...] = np.zeros((8, 8, 4))
        x = model.encoder.norm(images @ np.ones((3, 4), np.float32))
        np.testing.assert_allclose(x.mean((1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(x.std((1, 2, 3)), 1, atol=1e-3)


def test_computes_in_the_parameters_precision_but_mixes_in_float32(images):
    model = make()
    graphdef, state = nnx.split(model)
    half = nnx.merge(graphdef, jax.tree.map(jnp.bfloat16, state))
    output = call(half, images, key=KEY)
    assert {output.masks.dtype, output.recon.dtype, output.slots.dtype} == {jnp.dtype("float32")}
    np.testing.assert_allclose(output.recon, call(model, images, key=KEY).recon, atol=0.05)


def test_set_prediction(images):
    model = filled(lambda: set_prediction.Model(**SIZES, head_size=5, rngs=nnx.Rngs(0)))
    output = call(model, images, key=KEY, num_slots=4)
    assert output.logits.shape == (2, 4, 19)
    assert ((output.logits > 0) & (output.logits < 1)).all()
    assert output.masks.shape == (2, 4, 8, 8)
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)
    assert (output.masks[:, :, :4, :4] == output.masks[:, :, :1, :1]).all()


@pytest.mark.parametrize(
    ("make_model", "grid"),
    [
        (make, 8),
        (lambda: filled(lambda: set_prediction.Model(**SIZES, head_size=5, rngs=nnx.Rngs(0))), 2),
    ],
    ids=["discovery", "set prediction"],
)
def test_trajectory_tells_the_attention_and_changes_nothing(images, make_model, grid):
    model = make_model()
    plain = call(model, images, key=KEY, num_slots=4, num_iterations=2)
    told = call(model, images, key=KEY, num_slots=4, num_iterations=2, trajectory=True)
    assert plain.trajectory is None
    (attention,) = told.trajectory["attention"]
    assert attention.shape == (2, 2, 4, grid, grid)  # iterations, images, slots
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)
    for name in ("masks", "recon", "slots", "logits"):
        before, after = getattr(plain, name), getattr(told, name)
        assert (before is None) == (after is None)
        if before is not None:
            np.testing.assert_allclose(after, before, atol=1e-6)
    tokens = model.encoder(2 * images - 1).reshape(2, grid * grid, -1)
    slots = model.slot_attention.sample_slots(KEY, 2, 4)
    _, last = model.slot_attention(tokens, slots, num_iterations=2)
    np.testing.assert_allclose(attention[-1], last.reshape(2, 4, grid, grid), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decoder": "deconv"}, "decoder='deconv' is unknown"),
        ({"decoder": "expanding", "image_size": 35}, "take 'stationary' or another size"),
        ({"encoder_norm": "batch"}, "encoder norm 'batch' is unknown"),
        ({"activation": "gelu"}, "activation='gelu' is unknown"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_refuses_images_of_another_size_and_no_randomness(images):
    with pytest.raises(ValueError, match="give `key`, or `slots`"):
        make()(images)
    with pytest.raises(ValueError, match="image_size to what the data has"):
        make()(images[:, :6], key=KEY)
    with pytest.raises(ValueError, match="image_size to what the data has"):
        filled(lambda: set_prediction.Model(**SIZES, rngs=nnx.Rngs(0)))(images[:, :6], key=KEY)


@pytest.mark.parametrize("aggregation", ["scalar_batch_norm", "layer_norm", "image_level"])
@pytest.mark.parametrize("decoder", ["stationary", "up_convolve"])
def test_official_names_return(aggregation, decoder):
    """Also for the parts of which there are no official tensors at hand."""
    chosen = {"aggregation": aggregation, "decoder": decoder, "num_layers": 2}
    model, other = make(**chosen), slot_attention.Model(**{**SIZES, **chosen}, rngs=nnx.Rngs(1))
    official = to_official(model)
    load_official(other, official)
    for a, b in zip(
        jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    spread = [name for name in official if name.endswith("unpool.weights")]
    assert len(spread) == (2 if decoder == "up_convolve" else 0)


def hhousen_names(num_layers):
    """The names of object_discovery.slot_attention_model.SlotAttentionModel's state dict."""
    affine = [f"encoder.{i}.0" for i in range(num_layers)] + [
        *("encoder_pos_embedding.dense", "decoder_pos_embedding.dense"),
        *("encoder_out_layer.0", "encoder_out_layer.2"),
        *(f"decoder.{i}.0" for i in range(num_layers + 1)),
        f"decoder.{num_layers}.2",
        *(f"slot_attention.{norm}" for norm in ("norm_inputs", "norm_slots", "norm_mlp")),
        *("slot_attention.mlp.0", "slot_attention.mlp.2"),
    ]
    names = {f"{name}.{kind}" for name in affine for kind in ("weight", "bias")}
    names |= {f"slot_attention.project_{which}.weight" for which in "qkv"}
    names |= {f"slot_attention.gru.{k}_{w}" for k in ("weight", "bias") for w in ("ih", "hh")}
    names |= {"slot_attention.slot_mu", "slot_attention.slot_log_sigma"}
    return names | {"encoder_pos_embedding.grid", "decoder_pos_embedding.grid"}


def test_hhousen_model(images):
    model = make(decoder="expanding", num_layers=2, activation="leaky_relu", encoder_norm="none")
    official = to_official(model, "hhousen")
    assert official.keys() == hhousen_names(2)
    other = make(decoder="expanding", num_layers=2, activation="leaky_relu", encoder_norm="none")
    load_official(other, official)
    np.testing.assert_array_equal(
        call(other, images, key=KEY).recon, call(model, images, key=KEY).recon
    )
    with pytest.raises(UserError, match="activation='leaky_relu'"):
        load_official(make(decoder="expanding", num_layers=2), official)


def test_refuses_weights_that_do_not_fit():
    model = make()
    official = to_official(model)
    official["extra"] = official.pop("encoder_cnn.0.bias")
    official["encoder_cnn.2.bias"] = np.zeros(5)
    with pytest.raises(UserError) as error:
        load_official(model, official)
    for problem in ("missing encoder_cnn.0.bias", "unknown extra", "misshapen encoder_cnn.2.bias"):
        assert problem in str(error.value)
    learned = to_official(model)
    learned["encoder_pos.pos_embedding"] = learned["encoder_pos.pos_embedding"] * 2
    with pytest.raises(UserError, match=r"encoder_pos.pos_embedding differs from the constant"):
        load_official(model, learned)
