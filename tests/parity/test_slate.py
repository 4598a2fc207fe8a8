"""SLATE against tensors of its two implementations.

`s_slate_heads2_train3` holds three steps of the official model with two slot heads and dropout.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import optimizer
from akorn_jax.convert import load_official, to_official
from akorn_jax.models import slate
from akorn_jax.optimizer import schedules
from tests.parity.tensors import (
    Recorded,
    below,
    empty,
    files,
    last,
    literal,
    on_host,
    read,
    relative,
)

PATHS = files("slate", "s_*.npz")
ARRAYS = {path.stem: read(path) for path in PATHS}
MODELS = [name for name, arrays in ARRAYS.items() if "runs" in arrays]
RUNS = [(name, *run) for name in MODELS for run in literal(ARRAYS[name]["runs"])]
TRAININGS = [name for name, arrays in ARRAYS.items() if "opt" in arrays]
TOLERANCE = 1e-4  # of gradients
BLOCK_DROPOUTS = (
    *("self_attn.attn_dropout", "self_attn.output_dropout"),
    *("encoder_decoder_attn.attn_dropout", "encoder_decoder_attn.output_dropout", "ffn.3"),
)


def build(arrays):
    """The model of a fixture, with its weights."""
    config = literal(arrays["config"])
    hhousen = config["kind"] == "hhousen"
    model = empty(
        lambda: slate.Model(
            image_size=arrays["in/image"].shape[-1],
            num_slots=config["num_slots"],
            vocab_size=config["vocab_size"],
            channels=config["d_model"],
            slot_size=config["slot_size"],
            hidden_size=config["mlp_hidden_size"],
            # HHousen's code always adds an iteration, the one that has a gradient.
            num_iterations=config["num_iterations"] + hhousen,
            gradient="implicit" if hhousen else "unrolled",
            num_slot_heads=config.get("num_slot_heads", 1),
            num_blocks=config["num_dec_blocks"],
            num_heads=config["num_heads"],
            dropout=config["dropout"],
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, below(arrays, "param/"))
    return model


def dialect(arrays):
    return literal(arrays["config"])["kind"]


def draws(arrays, num_blocks, step=...):
    """The recorded draws in the order in which the model asks for them.

    A mask of dropout stands for its uniform draws: what is kept is above the rate, which 0 is not.
    """
    masks = {name: mask[step] for name, mask in below(arrays, "drop/").items()}

    def dropout(*names):
        return [np.float32(masks[name]) for name in names] if masks else []

    return {
        "relaxed": [last(arrays["in/exponential1"][step])],
        "hard": [last(arrays["in/exponential2"][step])],
        "embedding": dropout("positional_encoder.dropout"),
        "slots": [arrays["in/slot_noise"][step]],
        "blocks": [
            dropout(*(f"tf_dec.blocks.{i}.{name}" for name in BLOCK_DROPOUTS))
            for i in range(num_blocks)
        ],
    }


def in_order(drawn):
    """All draws of `draws`, for a whole call."""
    *before, blocks = drawn.values()
    return [draw for some in (*before, *blocks) for draw in some]


def is_zero(name, config):
    """Zero but for rounding: a softmax over the slots cancels a shift of all queries."""
    return name.endswith("norm_slots.bias") and config.get("num_slot_heads", 1) == 1


@functools.cache
def outputs(name):
    """`f(temperature, hard)`: what the model and its parts give, and the gradient of the loss."""
    arrays = ARRAYS[name]
    image = last(arrays["in/image"])
    model = build(arrays)
    drawn = draws(arrays, len(model.decoder.blocks))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, temperature, hard):
        model = nnx.merge(graphdef, params, rest)
        noise = Recorded(in_order(drawn))
        output = model(
            image, key=noise, train=True, trajectory=True, temperature=temperature, hard=hard
        )
        noise.assert_used()
        terms = {term: values.mean() for term, values in output.terms.items()}
        still = nnx.merge(graphdef, jax.lax.stop_gradient(params), rest)
        between = parts(still, jax.lax.stop_gradient(output.slots), temperature, hard)
        return sum(terms.values()), (output, terms, between)

    def parts(model, final_slots, temperature, hard):
        """What lies between, from the model's own parts."""
        logits = model.dvae.encode(image)
        log_probs = jax.nn.log_softmax(logits)
        gumbel = slate.gumbel(log_probs.shape, Recorded(drawn["hard"]))
        tokens = jnp.argmax(log_probs + gumbel, axis=-1).reshape(len(image), -1)
        embedded = model.embed_tokens(tokens, noise=Recorded(drawn["embedding"]))
        memory = model.slots_to_memory(final_slots)
        attention = model.slot_attention
        inputs = attention.norm_inputs(model.slot_inputs(embedded[:, 1:]))
        k, v = attention.to_k(inputs), attention.to_v(inputs)
        slots = [model.initial_slots(len(image), None, Recorded(drawn["slots"]))]
        updates = []
        for _ in range(attention.num_iterations):
            updates.append(attention.aggregate(attention.attend(slots[-1], k), v, None))
            slots.append(attention.step(slots[-1], k, v, None)[0])
        first, *others = model.decoder.blocks
        after_block0 = x = first(embedded[:, :-1], memory, Recorded(drawn["blocks"][0]))
        for block, noise in zip(others, drawn["blocks"][1:], strict=True):
            x = block(x, memory, Recorded(noise))
        return {
            "enc_logits": logits,
            "z_logits": log_probs,
            "z": slate.gumbel_softmax(log_probs, temperature, hard, Recorded(drawn["relaxed"])),
            "tokens": jnp.pad(tokens + 1, ((0, 0), (1, 0))),
            "embedded": embedded,
            "slots_proj": memory,
            "after_block0": after_block0,
            "decoder_out": model.decoder.norm(x),
            "traj_slots": jnp.stack(slots),
            "traj_updates": jnp.stack(updates),
        }

    value_and_grad = on_host(jax.value_and_grad(loss, has_aux=True))

    def run(temperature, hard):
        (value, aux), grads = value_and_grad(params, temperature, hard)
        return value, *aux, to_official(nnx.merge(graphdef, grads, rest), dialect(arrays))

    return run


@pytest.mark.parametrize(("name", "run", "temperature", "hard"), RUNS)
def test_training_call(name, run, temperature, hard):
    arrays = ARRAYS[name]
    config = literal(arrays["config"])
    official = below(arrays, f"{run}/")
    value, output, terms, parts, grads = outputs(name)(temperature, hard)
    np.testing.assert_array_equal(parts["tokens"], official["tokens"])
    for key in ("enc_logits", "z_logits"):
        assert relative(parts[key], last(arrays[f"out/{key}"])) < 1e-5, key
    assert relative(parts["z"], last(official["z"])) < 1e-5
    between = ("embedded", "slots_proj", "after_block0", "decoder_out", "traj_slots")
    for key in (*between, "traj_updates"):
        assert relative(parts[key], official[key]) < 1e-5, key
    assert relative(output.recon, last(official["recon_raw"])) < 1e-5
    assert relative(np.clip(output.recon, 0, 1), last(official["recon"])) < 1e-5
    assert relative(output.slots, official["slots"]) < 1e-5
    assert relative(output.logits, official["logits"]) < 1e-5
    assert_masks(output, arrays["in/image"], official)
    np.testing.assert_allclose(terms["mse"], official["mse"], rtol=1e-5)
    np.testing.assert_allclose(terms["cross_entropy"], official["cross_entropy"], rtol=1e-5)
    np.testing.assert_allclose(value, official["loss"], rtol=1e-5)
    assert_gradients(grads, arrays, run, config)


def assert_masks(output, image, official):
    """The attention over tokens, and the reference's picture: what a mask leaves is white."""
    masks = np.asarray(output.masks)
    tokens = masks[:, :, ::4, ::4]
    attention = tokens.reshape(*tokens.shape[:2], -1).swapaxes(1, 2)
    assert relative(attention, official["attention"]) < 1e-5
    white = image[:, None] * masks[:, :, None] + 1 - masks[:, :, None]
    assert relative(white, official["attn_vis"]) < 1e-5


def assert_gradients(grads, arrays, run, config):
    every = int(arrays["sub"])
    official = below(arrays, f"{run}/grad/")
    without = literal(arrays[f"{run}/no_grad"])
    trained = {key for key in grads if not key.endswith("self_attn_mask")}
    assert set(official) | set(without) == trained
    for key in without:
        assert not grads[key].any(), key
    for key, expected in official.items():
        if is_zero(key, config):
            continue
        norm = arrays.get(f"{run}/gradnorm/{key}")
        if norm is None:
            assert relative(grads[key], expected) < TOLERANCE, key
        else:
            assert relative(grads[key].ravel()[::every], expected) < TOLERANCE, key
            np.testing.assert_allclose(np.linalg.norm(grads[key]), norm, rtol=TOLERANCE)


@pytest.mark.parametrize("name", [n for n in MODELS if "gen/tokens" in ARRAYS[n]])
def test_generation(name):
    arrays = ARRAYS[name]
    official = below(arrays, "gen/")
    graphdef, state = nnx.split(build(arrays))
    image = last(arrays["in/image"])

    @jax.jit
    def reconstruct(state):
        model = nnx.merge(graphdef, state)
        noise = Recorded([arrays["in/gen_slot_noise"]])
        output = model(image, key=noise, decode="autoregressive")
        encoded = jnp.argmax(model.dvae.encode(image), axis=-1).reshape(len(image), -1)
        tokens = model.generate(output.slots)
        embedded = model.embed_tokens(tokens)[:, :-1]
        logits = model.head(model.decoder(embedded, model.slots_to_memory(output.slots)))
        return output, encoded, tokens, logits

    output, encoded, tokens, logits = reconstruct(state)
    np.testing.assert_array_equal(encoded + 1, official["enc_tokens"][:, 1:])
    np.testing.assert_array_equal(tokens, official["tokens"])
    assert relative(logits, official["logits"]) < 1e-5
    assert relative(output.slots, official["slots"]) < 1e-5
    assert relative(np.clip(output.recon, 0, 1), last(official["recon"])) < 1e-5
    assert_masks(output, arrays["in/image"], official)


@pytest.mark.parametrize("name", MODELS)
def test_weights_return_unchanged(name):
    official = below(ARRAYS[name], "param/")
    model = build(ARRAYS[name])
    returned = to_official(model, dialect(ARRAYS[name]))
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)


@pytest.mark.parametrize("name", TRAININGS)
def test_training_steps(name):
    """Adam with a rate of its own for the VAE, and one scale that bounds the largest gradient."""
    arrays = ARRAYS[name]
    config, options = literal(arrays["config"]), literal(arrays["opt"])
    model = build(arrays)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    steps = range(len(arrays["out/mse"]))

    def as_run(rates):
        return {"name": "piecewise", "values": rates.tolist(), "boundaries": list(steps)[1:]}

    tx, _ = optimizer.make(
        {
            "learning_rate": as_run(arrays["out/lr_main"]),
            "groups": (("dvae/.*", {"learning_rate": as_run(arrays["out/lr_dvae"])}),),
            "clip_value": options.get("clip", 1.0),
        },
        len(steps),
    )

    @jax.jit
    def update(params, opt_state, image, drawn, temperature):
        def loss(params):
            model = nnx.merge(graphdef, params, rest)
            output = model(image, key=Recorded(drawn), train=True, temperature=temperature)
            terms = {term: values.mean() for term, values in output.terms.items()}
            return sum(terms.values()), terms

        grads, terms = jax.grad(loss, has_aux=True)(params)
        largest = optax.tree.norm(grads, ord=np.inf)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, terms | {"grad_max": largest}

    opt_state = tx.init(params)
    for step in steps:
        drawn = in_order(draws(arrays, len(model.decoder.blocks), step))
        image = last(arrays["in/image"][step])
        temperature = np.float32(arrays["out/tau"][step])
        params, opt_state, seen = update(params, opt_state, image, drawn, temperature)
        for key, value in seen.items():
            np.testing.assert_allclose(value, arrays[f"out/{key}"][step], rtol=1e-4)
    final = to_official(nnx.merge(graphdef, params, rest), config["kind"])
    for key, expected in below(arrays, "final/").items():
        array = final[key].ravel()[:: int(arrays["sub"])] if final[key].size > 1200 else final[key]
        if not is_zero(key, config):
            assert relative(array, expected) < 2e-4, key


@pytest.mark.parametrize("name", [n for n in ARRAYS if "in/step" in ARRAYS[n]])
def test_schedules(name):
    """The recipes' temperature, and their rate's rise."""
    arrays = ARRAYS[name]
    steps = arrays["in/step"]
    temperature = schedules.make({"name": "cosine", "start": 1.0, "stop": 0.1, "steps": 30_000})
    warmup = schedules.make({"name": "warmup", "steps": 30_000, "offset": 1, "then": 1.0})
    for repository in ("official", "hhousen"):
        np.testing.assert_allclose(temperature(steps), arrays[f"lr/{repository}_tau"], rtol=1e-12)
        np.testing.assert_allclose(warmup(steps), arrays[f"lr/{repository}_warmup"], rtol=1e-12)
