"""DINOSAUR against tensors of EmbodiedVision/slot_attention_normalization."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import metrics, optimizer
from akorn_jax.convert import load_official, to_official
from akorn_jax.errors import UserError
from akorn_jax.evaluation import coarse_masks
from akorn_jax.layers.resize import resize_masks
from akorn_jax.models.dinosaur import Model
from tests.parity import tensors

FILES = tensors.files("dinosaur", "d_*.npz")
NETWORKS = [path for path in FILES if "runs" in np.load(path)]
TRAININGS = [path for path in FILES if "train" in path.stem]
SCHEDULES = [path for path in FILES if path.stem.endswith("_lr")]
EVALUATIONS = [path for path in FILES if "evaluation" in path.stem]
AGGREGATIONS = {"scalar_batch_norm_single": "scalar_batch_norm"}  # where our name is another
# Zero but for rounding: the softmax over slots cancels a shift of all queries.
ZERO = ("norm_slots.bias",)
LOGIT_BIAS = "mlp_decoder.mlp_decoder.6.bias"  # so is its first entry, the bias of all logits
TOLERANCE = 2e-5


def name(path):
    return path.stem


def load(arrays):
    """The model that a file's `config` and weights describe, filled with these."""
    config = tensors.literal(arrays["config"])
    official = tensors.below(arrays, "param/")
    chosen = (config["sa_kwargs"] or {}).get("update_normalization", "mean")
    encoder = None
    if any(key.startswith("encoder.") for key in official):
        encoder = {
            "name": "vit",
            "image_size": config["vit"]["img_size"],
            "patch_size": config["vit"]["patch_size"],
            "width": config["vit"]["embed_dim"],
            "depth": config["vit"]["depth"],
            "heads": config["vit"]["num_heads"],
            "mean": (0, 0, 0),  # images of the files are normalised
            "std": (1, 1, 1),
        }
    side = round(official["mlp_decoder.decoder_pos_encoding"].shape[2] ** 0.5)
    model = tensors.empty(
        lambda: Model(
            encoder=encoder,
            grid=(side, side),
            feature_size=config["feature_size"],
            num_slots=config["num_slots"],
            num_iterations=config["iters"],
            slot_size=config["slot_size"],
            hidden_size=len(official["slot_attention.mlp.0.weight"]),
            aggregation=AGGREGATIONS.get(chosen, chosen),
            decoder_size=config["decoder_hidden_size"],
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, official)
    return model


def inputs_of(arrays, source):
    """Images or features, channels last."""
    array = arrays[f"in/{source}"]
    if source == "image":
        return tensors.last(array)
    side = round(array.shape[-2] ** 0.5)
    return array.reshape(*array.shape[:-2], side, side, -1)


def without_zeros(official):
    """The arrays whose gradients are not zero analytically."""
    kept = {key: array for key, array in official.items() if not key.endswith(ZERO)}
    if LOGIT_BIAS in kept:
        kept[LOGIT_BIAS] = kept[LOGIT_BIAS][1:]
    return kept


@functools.cache
def network(path):
    """A file and its model."""
    arrays = tensors.read(path)
    return arrays, load(arrays)


CASES = [
    (path, run)
    for path in NETWORKS
    for run in tensors.literal(np.load(path)["runs"])
    if isinstance(run, tuple)
]


@pytest.mark.parametrize(("path", "run"), CASES, ids=[f"{p.stem}-{r[0]}" for p, r in CASES])
def test_run(path, run):
    arrays, model = network(path)
    title, mode, call, source = run
    renamed = {"iters": "num_iterations", "num_iters": "num_iterations"}
    options = {renamed.get(key, key): value for key, value in call.items()}
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    noise = arrays[f"in/noise_{title}"]

    def loss(params, inputs):
        model = nnx.merge(graphdef, params, rest, copy=True)
        recorded = tensors.Recorded([noise])
        output = model(inputs, key=recorded, train=mode == "train", trajectory=True, **options)
        recorded.assert_used()
        decoded, logits = model.decoder(output.slots)
        attention = output.trajectory["attention"][0][-1]
        weights = jax.nn.softmax(logits, axis=1)
        mapped = model.out(jax.nn.relu(model.hidden(model.norm(output.features))))
        found = {
            "slots": output.slots,
            "attention": attention,
            "mask_logits": logits,
            "masks": weights,
            "decoded_features": decoded,
            "reconstruction": jnp.einsum("bkhw,bkhwd->bhwd", weights, decoded),
            "features": output.features,
            "sa_inputs": mapped,
            "loss_per_image": output.terms["feature_mse"],
            "loss": output.terms["feature_mse"].mean(),
        }
        return found["loss"], (found, output, nnx.state(model))

    run_it = tensors.on_host(jax.value_and_grad(loss, has_aux=True))
    (_, (found, output, after)), grads = run_it(params, inputs_of(arrays, source))
    for key, array in found.items():
        expected = arrays[f"{title}/{key}"]
        ours = np.asarray(array).reshape(expected.shape)
        assert tensors.relative(ours, expected) < TOLERANCE, key
    np.testing.assert_array_equal(output.attention, found["attention"])
    np.testing.assert_array_equal(output.masks, found["masks"])

    ours = without_zeros(to_official(nnx.merge(graphdef, grads, rest)))
    missing = {str(key) for key in arrays.get(f"{title}/no_grad", ())}
    expected = without_zeros(tensors.below(arrays, f"{title}/grad/"))
    assert bool(expected) == (mode == "train")
    for key, array in expected.items():
        tensors.assert_sampled(ours[key], {"sub": arrays["sub"], key: array}, key, 2e-4)
    if mode == "train":
        for key in missing | {key for key in ours if key.startswith("encoder.")}:
            np.testing.assert_array_equal(ours[key], 0)
    returned = to_official(nnx.merge(graphdef, after))
    for key, array in tensors.below(arrays, f"{title}/after/").items():
        np.testing.assert_allclose(returned[key], array, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("path", NETWORKS, ids=name)
def test_weights_return_unchanged(path):
    arrays, model = network(path)
    official, returned = tensors.below(arrays, "param/"), to_official(model)
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)


def test_what_the_official_model_lacks_has_no_names():
    model = nnx.eval_shape(lambda: Model(position=True, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="position=False"):
        to_official(model)


@pytest.mark.parametrize("path", NETWORKS, ids=name)
def test_encoder(path):
    """With the class token first, as the official encoder gives them."""
    arrays, model = network(path)
    tokens, _ = jax.jit(lambda images: model.encoder.vit(images))(inputs_of(arrays, "image"))
    assert tensors.relative(tokens, arrays["out/encoder_features"]) < TOLERANCE


@pytest.mark.parametrize("path", TRAININGS, ids=name)
def test_training(path):
    check_training(tensors.read(path))


def check_training(arrays):
    """Adam with the recorded rates and the gradient's L2 norm clipped to 1, step by step."""
    model = load(arrays)
    source = "features" if "in/features" in arrays else "image"
    noise = next(array for key, array in arrays.items() if key.startswith("in/noise"))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    adam = optax.inject_hyperparams(optax.adam)(1.0)
    optimizer_state = adam.init(params)

    @jax.jit
    def step(params, rest, state, inputs, noise, rate):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            output = model(inputs, key=tensors.Recorded([noise]), train=True)
            return output.terms["feature_mse"].mean(), nnx.split(model, nnx.Param, ...)[2]

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
        norm = optax.global_norm(grads)
        grads = jax.tree.map(lambda g: g * jnp.minimum(1, 1 / (norm + 1e-6)), grads)
        state.hyperparams["learning_rate"] = rate
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), rest, state, value, norm

    for t, inputs in enumerate(inputs_of(arrays, source)):
        params, rest, optimizer_state, value, norm = step(
            params, rest, optimizer_state, inputs, noise[t], arrays["out/lr"][t]
        )
        np.testing.assert_allclose(value, arrays["out/loss"][t], rtol=2e-5)
        np.testing.assert_allclose(norm, arrays["out/grad_norm"][t], rtol=1e-4)
    final = without_zeros(to_official(nnx.merge(graphdef, params, rest)))
    expected = without_zeros(tensors.below(arrays, "final/"))
    assert expected
    for key, array in expected.items():
        tensors.assert_sampled(final[key], {"sub": arrays["sub"], key: array}, key, 2e-4)


@pytest.mark.parametrize("path", SCHEDULES, ids=name)
def test_schedule(path):
    check_schedule(tensors.read(path))


def check_schedule(arrays):
    """The released schedule; its warm-up starts at 1e-8 of the rate, ours at zero."""
    rates = next(array for key, array in arrays.items() if key.startswith(("lr", "out/lr")))
    config = {
        "learning_rate": 4e-4,
        "warmup_steps": 10_000,
        "schedule": "exponential",
        "decay_rate": 0.5,
        "decay_steps": 100_000,
        "decay_start": 10_000,
    }
    _, schedule = optimizer.make(config, 500_000)
    np.testing.assert_allclose(schedule(arrays["in/step"]), rates, rtol=1e-6, atol=5e-12)


@pytest.mark.parametrize("path", EVALUATIONS, ids=name)
def test_evaluation(path):
    arrays = tensors.read(path)
    size = arrays["out/segmentations_224"].shape[1:]
    true = coarse_masks.nearest_labels(arrays["in/segmentations"], size)
    np.testing.assert_array_equal(true, arrays["out/segmentations_224"])
    for source in ("masks", "attention"):
        cells = arrays[f"in/{source}"]
        side = round(cells.shape[-1] ** 0.5)
        masks = cells.reshape(*cells.shape[:2], side, side)
        for suffix in ("", "_refined"):
            refine = bool(suffix)
            labels = coarse_masks.label_maps(masks, size, refine=refine)
            official = arrays[f"out/{source}{suffix}_segmentation"]
            assert (labels != official).mean() < 1e-5  # ties: the official argmax is in float64
            expected = tensors.below(arrays, f"f64_out/ari_{source}{suffix}")
            np.testing.assert_allclose(metrics.ari(true, labels), expected[""], atol=1e-6)
            np.testing.assert_allclose(metrics.fg_ari(true, labels), expected["_no_bg"], atol=1e-6)
            large = resize_masks(masks, size) if refine else masks.repeat(8, 2).repeat(8, 3)
            upscaled = arrays[f"out/{source}{suffix}_upscaled_s3"]
            np.testing.assert_allclose(large[:, :, ::3, ::3], upscaled, atol=1e-6)
    for key, rows in tensors.below(arrays, "out/nearest_rows_").items():
        np.testing.assert_array_equal(coarse_masks.nearest(*map(int, key.split("_"))), rows)
    with pytest.raises(ValueError, match="cannot be shrunk"):  # where the official one also fails
        coarse_masks.nearest(3, 4)
    for key, expected in tensors.below(arrays, "out/refine_block").items():
        small = arrays["in/small"][None]
        large = resize_masks(small, tuple(int(key) * n for n in small.shape[2:]))
        np.testing.assert_allclose(large[0], expected, atol=1e-6)
