"""Efficient MORL against tensors of the reference implementation in karazijal/clevrtex."""

import functools
import math

import jax
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.layers.distributions import normal_kl
from akorn_jax.models import efficient_morl
from tests.parity import tensors

FILES = tensors.files("efficient_morl", "efficient_morl*.npz")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
TOLERANCE = 2e-4
# Zero but for rounding: the softmax over slots cancels a shift of all queries.
ZERO = ("hvae_networks.norm_slots.bias",)


def official_parameters(path, arrays):
    """A file's own, on top of those of the file that it refers to."""
    shared = {}
    if "params_in" in arrays:
        shared = tensors.below(tensors.read(path.parent / str(arrays["params_in"])), "param/")
    return shared | tensors.below(arrays, "param/")


@functools.cache
def model_and_arrays(path):
    arrays = tensors.read(path)
    config = tensors.literal(arrays["config"])
    gaussian = config["image_likelihood"].lower() == "gaussian"
    model = tensors.empty(
        lambda: efficient_morl.Model(
            num_slots=config["K"],
            slot_size=config["z_size"],
            num_layers=config["stochastic_layers"],
            std=math.exp(config["log_scale"]),
            likelihood="gaussian" if gaussian else "mixture",
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, official_parameters(path, arrays))
    return model, arrays, config


def uses_geco(arrays, config):
    return config["use_geco"] and int(arrays["step"]) >= config["geco_warm_start"]


def weights_of(arrays, config):
    """Those of nll and KL."""
    beta = float(arrays["out/beta_before"]) if uses_geco(arrays, config) else None
    return 1.0 if beta is None else math.log1p(math.exp(beta)), config["training"]["kl_beta_init"]


def noise_of(arrays, model):
    """Recorded draws `[B K, Z]` in the four parts that ours asks for, `[..., B, K, Z]`."""
    draws = np.stack(list(tensors.below(arrays, "in/noise_").values()))
    draws = draws.reshape(len(draws), -1, model.num_slots, model.slot_size)
    L = model.num_layers
    return draws[0], draws[1 : L + 1], draws[L + 1 : 2 * L], draws[2 * L :]


def images_of(arrays):
    return tensors.last(arrays["in/image"])


def posterior(array):
    """(loc, raw) `[..., 2 Z]` as `[..., 2, Z]`."""
    return array.reshape(*array.shape[:-1], 2, -1)


def halved(array):
    """Every second pixel of `[..., H, W]`, as trajectories are stored."""
    return array[..., ::2, ::2]


@functools.cache
def run(path):
    """The output of a file's model and its gradients under the official names."""
    model, arrays, config = model_and_arrays(path)
    image, noise = images_of(arrays), noise_of(arrays, model)
    nll_weight, kl_weight = weights_of(arrays, config)
    graphdef, params = nnx.split(model)

    def loss(params):
        recorded = tensors.Recorded(noise)
        output = nnx.merge(graphdef, params)(
            image,
            key=recorded,
            train=True,
            trajectory=True,
            num_iterations=len(noise[-1]),
            nll_weight=nll_weight,
            kl_weight=kl_weight,
        )
        recorded.assert_used()
        terms = {name: term.mean() for name, term in output.terms.items()}
        return nll_weight * terms["nll"] + kl_weight * terms["kl"], output

    (_, output), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return output, to_official(nnx.merge(graphdef, grads))


@every_file
def test_outputs(path):
    _, arrays, config = model_and_arrays(path)
    output, _ = run(path)
    pairs = {
        "out/reconstruction": np.moveaxis(output.recon, -1, 1),
        "out/slot_reconstructions": np.moveaxis(output.patches, -1, 2),
        "out/masks": output.masks[:, :, None],
        "out/rec_loss": output.terms["nll_last"].mean(),
    }
    for name, ours in pairs.items():
        assert tensors.relative(ours, arrays[name]) < TOLERANCE, name
    assert tensors.relative(output.slots, arrays["traj/z"][-1]) < TOLERANCE
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)
    (masks,) = output.trajectory["masks"]
    logits = arrays["traj/mask_logits"][:, :, :, 0]
    assert tensors.relative(halved(masks), jax.nn.softmax(logits, axis=2)) < TOLERANCE

    I = len(masks) - 1
    weights = (I + 3 - np.arange(I + 1)) / (I + 1)
    np.testing.assert_allclose(arrays["out/weights"], weights, rtol=1e-6)
    for name in ("nll", "kl"):
        expected = weights @ arrays[f"traj/{name}"]  # [B]
        assert tensors.relative(output.terms[name], expected) < TOLERANCE, name
    assert tensors.relative(output.terms["nll_last"], arrays["traj/nll"][-1]) < TOLERANCE

    nll_weight, kl_weight = weights_of(arrays, config)
    total = kl_weight * output.terms["kl"].mean()
    if uses_geco(arrays, config):
        # Its value has the moving average of the constraint in place of the constraint.
        total -= nll_weight * weights.sum() * arrays["out/C_ema_before"]
    else:
        total += output.terms["nll"].mean()
    assert tensors.relative(total, arrays["out/loss"]) < TOLERANCE


@every_file
def test_the_curriculum_gives_the_iterations(path):
    """Those of the file, by its step in training and by the constructor's number otherwise."""
    _, arrays, config = model_and_arrays(path)
    iterations = config["refinement_iters"]
    if bool(arrays["training"]):
        for start, number in config["training"]["refinement_curriculum"]:
            iterations = number if int(arrays["step"]) >= start else iterations
    assert len(arrays["traj/nll"]) == iterations + 1


@every_file
def test_gradients(path):
    _, arrays, _ = model_and_arrays(path)
    _, grads = run(path)
    complete, sampled = (tensors.below(arrays, kind) for kind in ("grad/", "gradsub/"))
    if not complete and not sampled:
        pytest.skip("the file has no gradients")
    assert complete.keys() | sampled.keys() == grads.keys() - {"geco_C_ema", "geco_beta"}
    for name, expected in complete.items():
        if name in ZERO:
            assert np.abs(grads[name]).max() < 1e-2
        else:
            assert tensors.relative(grads[name], expected) < TOLERANCE, name
    for name, expected in sampled.items():
        ours = grads[name].ravel()[:: int(arrays[f"stride/{name}"])]
        assert tensors.relative(ours, expected) < TOLERANCE, name


@every_file
def test_hierarchy(path):
    """Tokens, every layer of the posterior, and every layer's prior and KL."""
    model, arrays, _ = model_and_arrays(path)
    image, (initial, layers, conditions, _) = images_of(arrays), noise_of(arrays, model)
    graphdef, params = nnx.split(model)

    @jax.jit
    def hierarchy(params):
        model = nnx.merge(graphdef, params)
        tokens = model.encoder(2 * image - 1)
        posteriors, attention = model.encode(image, initial, layers)
        kls, prior = model.hierarchical_kl(posteriors[:-1], posteriors[-1], conditions)
        return tokens, efficient_morl._gaussian(posteriors), attention, kls, prior

    tokens, (locs, stds), attention, kls, prior = hierarchy(params)
    pairs = {
        "out/tokens": tokens[:, ::8],
        "out/kl_layers": kls,
        "out/prior_loc_1": prior[0],
        "out/prior_std_1": prior[1],
    }
    for i in range(model.num_layers):
        pairs[f"out/q_loc_{i + 1}"] = locs[i]
        pairs[f"out/q_std_{i + 1}"] = stds[i]
        shape = arrays[f"out/attn_{i + 1}"].shape
        pairs[f"out/attn_{i + 1}"] = attention[i].reshape(shape) + 1e-8
    for name, ours in pairs.items():
        assert tensors.relative(ours, arrays[name]) < TOLERANCE, name
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)


@every_file
def test_each_refinement(path):
    """From the recorded posterior of every iteration."""
    model, arrays, config = model_and_arrays(path)
    image = images_of(arrays)
    initial, layers, conditions, refinements = noise_of(arrays, model)
    weights = efficient_morl.Weights(*weights_of(arrays, config))
    lams = posterior(arrays["traj/lambda"])
    prior = arrays["out/prior_loc_1"], arrays["out/prior_std_1"]
    graphdef, params = nnx.split(model)

    @functools.partial(jax.jit, static_argnums=0)
    def refine(first, params, lam, noise, h):
        model = nnx.merge(graphdef, params)

        def kl(lam):
            if first:
                posteriors, _ = model.encode(image, initial, layers)
                return model.hierarchical_kl(posteriors[:-1], lam, conditions)[0].sum((0, 2))
            return normal_kl(*efficient_morl._gaussian(lam), *prior).sum((1, 2))

        decoded, gradient = model.differentiate(image, lam, noise, kl, weights)
        return decoded, gradient, *model.refinement(lam, gradient, h)

    trajectory = tensors.below(arrays, "traj/")
    noise = np.concatenate([layers[-1:], refinements])
    h = np.zeros(noise.shape[1:], np.float32)
    for i in range(len(refinements)):
        expected = {name: array[i] for name, array in trajectory.items()}
        decoded, gradient, step, h = refine(i == 0, params, lams[i], noise[i], h)
        pairs = {
            "nll": decoded.nll,
            "kl": decoded.kl,
            "z": decoded.z,
            "slot_means": halved(np.moveaxis(decoded.means, -1, 2)),
            "mask_logits": halved(decoded.logits[:, :, None]),
            "d_lambda": gradient.reshape(expected["d_lambda"].shape),
            "delta": step.reshape(expected["delta"].shape),
            "h": h,
        }
        for name, ours in pairs.items():
            assert tensors.relative(ours, expected[name]) < TOLERANCE, f"{name}, refinement {i}"
        h = expected["h"]


@every_file
def test_weights_return_unchanged(path):
    model, arrays, _ = model_and_arrays(path)
    official = official_parameters(path, arrays)
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for key, array in official.items():
        if key.startswith("geco_"):  # a task's state, not the model's
            assert returned[key].shape == array.shape
        else:
            np.testing.assert_array_equal(returned[key], array)


def test_official_parameter_counts():
    model = nnx.eval_shape(lambda: efficient_morl.Model(rngs=nnx.Rngs(0)))

    def count(*parts):
        return sum(p.size for part in parts for p in jax.tree.leaves(nnx.state(part, nnx.Param)))

    assert count(model) == 666_500
    assert count(model.encoder) == 320_704 + 320
    assert count(model.layer.gru) == 49_920
    assert count(model.decoder) == 150_340
    assert count(model.prior) == 24_832
    assert count(model.layer.residual_loc, model.layer.residual_raw) == 33_152 + 256
    assert count(model.refinement) == 74_432
