"""IODINE against tensors of the reference implementation in karazijal/clevrtex."""

import functools
import math

import jax
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.models import iodine
from tests.parity import tensors

FILES = tensors.files("iodine", "iodine*.npz")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
TOLERANCE = 2e-4


@functools.cache
def model_and_arrays(path):
    arrays = tensors.read(path)
    config = tensors.literal(arrays["config"])
    model = tensors.empty(
        lambda: iodine.Model(
            image_size=config["input_size"][-1],
            num_slots=config["K"],
            slot_size=config["z_size"],
            channels=config["conv_channels"],
            hidden_size=config["lstm_dim"],
            num_iterations=config["inference_iters"],
            std=math.exp(config["log_scale"]),
            released_tiling=not config["fixed"],
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, tensors.below(arrays, "param/"))
    return model, arrays, config


def noise_of(arrays, model):
    """Recorded draws `[B K, Z]`, one per decode, as the one draw `[T, B, K, Z]` of ours."""
    draws = tensors.below(arrays, "in/noise_").values()
    shape = (model.num_iterations, -1, model.num_slots, model.slot_size)
    return np.stack(list(draws)).reshape(shape)


def halved(array):
    """Every second pixel of `[..., H, W]`, as trajectories are stored."""
    return array[..., ::2, ::2]


@functools.cache
def run(path):
    """The output of a file's model, and its gradients under the official names."""
    model, arrays, config = model_and_arrays(path)
    image, noise = tensors.last(arrays["in/image"]), noise_of(arrays, model)
    graphdef, params = nnx.split(model)

    def loss(params):
        recorded = tensors.Recorded([noise])
        model = nnx.merge(graphdef, params)
        beta = config["kl_beta"]
        output = model(image, key=recorded, train=True, trajectory=True, kl_weight=beta)
        recorded.assert_used()
        return output.terms["nll"].mean() + beta * output.terms["kl"].mean(), output

    (value, output), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return value, output, to_official(nnx.merge(graphdef, grads))


@every_file
def test_outputs(path):
    _, arrays, _ = model_and_arrays(path)
    value, output, _ = run(path)
    pairs = {
        "out/loss": value,
        "out/reconstruction": np.moveaxis(output.recon, -1, 1),
        "out/slot_reconstructions": np.moveaxis(output.patches, -1, 2),
        "out/masks": output.masks[:, :, None],
        "out/z": output.slots,
    }
    for name, ours in pairs.items():
        assert tensors.relative(ours, arrays[name]) < TOLERANCE, name
    np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)
    (masks,) = output.trajectory["masks"]
    assert tensors.relative(halved(masks), np.exp(arrays["traj/log_masks"][:, :, :, 0])) < TOLERANCE
    T = len(masks)
    weights = np.arange(1, T + 1) / T
    for name in ("nll", "kl"):
        expected = weights @ arrays[f"traj/{name}"]  # [B]
        assert tensors.relative(output.terms[name], expected) < TOLERANCE, name
    # What the reference reports is of the last iteration alone.
    assert np.isclose(arrays["out/recon_loss"], arrays["traj/nll"][-1].mean(), rtol=1e-5)


@every_file
def test_gradients(path):
    _, arrays, _ = model_and_arrays(path)
    _, _, grads = run(path)
    complete, sampled = (tensors.below(arrays, kind) for kind in ("grad/", "gradsub/"))
    if not complete and not sampled:
        pytest.skip("the file has no gradients")
    assert complete.keys() | sampled.keys() == grads.keys() - {"gmm_log_scale"}
    for name, expected in complete.items():
        assert tensors.relative(grads[name], expected) < TOLERANCE, name
    for name, expected in sampled.items():
        ours = grads[name].ravel()[:: int(arrays[f"stride/{name}"])]
        assert tensors.relative(ours, expected) < TOLERANCE, name


@every_file
def test_each_refinement(path):
    """From the recorded posterior of every iteration, channel by channel."""
    model, arrays, config = model_and_arrays(path)
    image, noise = tensors.last(arrays["in/image"]), noise_of(arrays, model)
    graphdef, params = nnx.split(model)

    @jax.jit
    def refine(params, lam, noise, state):
        model = nnx.merge(graphdef, params)
        decoded, gradients = model.differentiate(image, lam, noise, config["kl_beta"])
        maps, vectors = model.refinement_inputs(image, lam, decoded, gradients)
        return decoded, gradients, maps, vectors, *model.refinement(maps, vectors, state)

    trajectory = tensors.below(arrays, "traj/")
    state = model.refinement.lstm.initial_state(trajectory["h"].shape[1:-1])
    for i in range(model.num_iterations - 1):
        expected = {name: array[i] for name, array in trajectory.items()}
        decoded, gradients, maps, vectors, step, state = refine(
            params, expected["lambda"], noise[i], state
        )
        pairs = {
            "nll": decoded.nll,
            "kl": decoded.kl,
            "slot_means": halved(np.moveaxis(decoded.means, -1, 2)),
            "log_masks": halved(decoded.log_masks[:, :, None]),
            "d_means": halved(np.moveaxis(gradients.means, -1, 2)),
            "d_log_masks": halved(gradients.log_masks[:, :, None]),
            "d_lambda": gradients.lam,
            "refine_vector_inputs": vectors,
            "delta": step,
            "h": state[0],
            "c": state[1],
        }
        for name, ours in pairs.items():
            assert tensors.relative(ours, expected[name]) < TOLERANCE, f"{name}, refinement {i}"
        theirs = expected["refine_image_inputs"]
        assert theirs.shape[2] == maps.shape[-1] == iodine.MAPS
        for channel in range(iodine.MAPS):
            error = tensors.relative(halved(maps[..., channel]), theirs[:, :, channel])
            assert error < TOLERANCE, f"channel {channel}, refinement {i}"
        state = (expected["h"], expected["c"])


@every_file
def test_weights_return_unchanged(path):
    model, arrays, _ = model_and_arrays(path)
    official = tensors.below(arrays, "param/")
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)


def test_official_parameter_counts():
    model = nnx.eval_shape(lambda: iodine.Model(rngs=nnx.Rngs(0)))

    def count(*parts):
        return sum(p.size for part in parts for p in jax.tree.leaves(nnx.state(part, nnx.Param)))

    norms = (model.norm_likelihood, model.norm_without, model.norm_means, model.norm_log_masks)
    assert count(model) == 1_637_060
    assert count(model.decoder) == 185_988
    assert count(model.refinement) == 1_253_696
    assert count(*norms, model.norm_loc, model.norm_raw) == 197_120
    assert model.posterior.size == 256
