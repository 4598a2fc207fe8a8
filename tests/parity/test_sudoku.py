"""AKOrN and ItrSA for Sudoku against tensors of the official implementation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import load_official, to_official
from akorn_jax.evaluation import boards
from akorn_jax.models import akorn_sudoku, itrsa_sudoku
from akorn_jax.tasks.base import Context
from akorn_jax.tasks.boards import Task
from tests.parity.tensors import (
    FIXTURES,
    Recorded,
    assert_gradients,
    below,
    empty,
    last,
    literal,
    read,
    relative,
)

PATHS = sorted(FIXTURES.glob("l_*.npz"))
OSCILLATORY = [path for path in PATHS if "n" in literal(read(path)["config"])]


def names(paths):
    return {"argvalues": paths, "ids": [path.stem for path in paths]}


def make(config):
    """A model from the constructor's official arguments."""
    c = dict(config)
    shared = {"channels": c["ch"], "num_steps": c["T"], "heads": c["heads"]}
    if "n" not in c:
        return itrsa_sudoku.Model(
            **shared,
            num_layers=c["blocks"],
            mlp_dim=c["mlp_dim"],
            gta=c.get("gta", False),
            rngs=nnx.Rngs(0),
        )
    return akorn_sudoku.Model(
        **shared,
        num_layers=c["L"],
        oscillator_dim=c["n"],
        connectivity=c.get("J", "attn"),
        gamma=c.get("gamma", 1.0),
        use_omega=c.get("use_omega", True),
        global_omega=c.get("global_omg", True),
        init_omega=c.get("init_omg", 0.1),
        learn_omega=c.get("learn_omg", False),
        nonlinear=c.get("nl", True),
        rngs=nnx.Rngs(0),
    )


@functools.cache
def case(path):
    """Official tensors, the model with its weights, the batch, and what our model gives."""
    arrays = read(path)
    model = empty(lambda: make(literal(arrays["config"])))
    load_official(model, below(arrays, "param/"))
    hot, solution = arrays["in/X"], arrays["in/Y"]
    batch = {
        "puzzle": np.where(hot.any(-1), hot.argmax(-1) + 1, 0).astype(np.uint8),
        "solution": (solution.argmax(-1) + 1).astype(np.uint8),
    }
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        model = nnx.merge(graphdef, params, rest)
        ctx = Context(jnp.zeros((), jnp.int32), noise(arrays))
        output = Task().apply(model, batch, ctx, trajectory=True)
        ctx = ctx.with_key(noise(arrays))
        return Task().loss(model, batch, ctx)[0], output

    (value, output), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return arrays, model, batch, (value, output, nnx.merge(graphdef, grads, rest))


def noise(arrays):
    return Recorded([last(arrays["in/noise"])] if "in/noise" in arrays else [])


@pytest.mark.parametrize("path", **names(PATHS))
def test_logits_and_loss(path):
    arrays, _, _, (loss, output, _) = case(path)
    np.testing.assert_allclose(output.logits, arrays["out/logits"], atol=1e-5)
    np.testing.assert_allclose(output.trajectory["logits"][0][-1], output.logits, atol=1e-6)
    np.testing.assert_allclose(loss, arrays["out/loss"], rtol=1e-5)


@pytest.mark.parametrize("path", **names(PATHS))
def test_boards_are_right_where_theirs_are(path):
    arrays, _, batch, (_, output, _) = case(path)
    predicted = np.argmax(output.logits, axis=-1) + 1
    right = boards.right(predicted, batch["puzzle"], batch["solution"])
    blanks = batch["puzzle"] == 0
    np.testing.assert_array_equal(blanks.sum(axis=(1, 2)), arrays["out/num_blanks"])
    np.testing.assert_array_equal((right & blanks).sum(axis=(1, 2)), arrays["out/num_correct"])
    np.testing.assert_array_equal(right.all(axis=(1, 2)), arrays["out/board_correct"])


@pytest.mark.parametrize("path", **names(OSCILLATORY))
def test_trajectory_and_energies(path):
    arrays, _, _, (_, output, _) = case(path)
    trajectory = output.trajectory
    for l, (x, energy) in enumerate(
        zip(trajectory["oscillators"], trajectory["energies"], strict=True)
    ):
        np.testing.assert_allclose(x, last(arrays[f"xs/layer{l}"]), atol=1e-5)
        np.testing.assert_allclose(energy, arrays[f"energy/layer{l}"], rtol=1e-4, atol=1e-4)
    found = boards.Evaluator.reduce(None, output, {})
    for kind, vote in (("sum", "least energy, summed"), ("last", "least energy, last")):
        assert relative(np.asarray(found[vote])[:, -1], arrays[f"out/energy_{kind}"]) < 1e-5


@pytest.mark.parametrize("path", **names(PATHS))
def test_gradients(path):
    arrays, _, _, (_, _, grads) = case(path)
    assert_gradients(to_official(grads), arrays, rtol=1e-4)


@pytest.mark.parametrize("path", **names(PATHS))
def test_weights_return_unchanged(path):
    arrays, model, *_ = case(path)
    official, returned = below(arrays, "param/"), to_official(model)
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)
