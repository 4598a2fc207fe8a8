"""Board models: what they may look at, steps and starts, the task, a run from end to end."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx

from akorn_jax import evaluate, report, run_config, train
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation.predict import collect, predict
from akorn_jax.models import akorn_sudoku, itrsa_sudoku
from akorn_jax.outputs import readout_steps
from akorn_jax.runtime import sharding
from akorn_jax.tasks.base import Context
from akorn_jax.tasks.boards import Task
from akorn_jax.training import train_state
from configs import base
from datasets.prepare import prepare
from datasets.scenes import sudoku as boards

SMALL = {"channels": 8, "num_steps": 1, "size": 4, "heads": 2}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def drawn():
    return boards.batch(0, np.arange(4), size=4, givens=(6, 8))


@pytest.fixture(scope="module")
def akorn():
    return akorn_sudoku.Model(**SMALL, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def itrsa():
    return itrsa_sudoku.Model(**SMALL, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["akorn", "itrsa"])
def test_logits_along_the_way_are_those_of_fewer_steps(name, request, drawn):
    model = request.getfixturevalue(name)
    puzzle = jnp.asarray(drawn["puzzle"], jnp.int32)
    found = model(puzzle, key=KEY, num_steps=2, trajectory=True)
    assert found.logits.shape == (4, 4, 4, 4)
    logits = found.trajectory["logits"][0]
    assert len(logits) == len(readout_steps(2)) == 2
    np.testing.assert_allclose(logits[0], model(puzzle, key=KEY).logits, atol=1e-6)
    np.testing.assert_allclose(logits[1], found.logits, atol=1e-6)
    assert np.abs(logits[0] - logits[1]).max() > 1e-6


def test_only_blanks_start_at_random(akorn, drawn):
    puzzle = jnp.asarray(drawn["puzzle"], jnp.int32)
    first, second = (
        akorn(puzzle, key=jax.random.key(i), num_steps=1, trajectory=True).trajectory["initial"][0]
        for i in range(2)
    )
    changed = np.abs(first - second).max(axis=-1) > 0
    np.testing.assert_array_equal(changed, drawn["puzzle"] == 0)


def test_parameters_are_the_official_ones():
    """2,982,412 in the released code, of which 41,472 are read nowhere: here they are frozen."""
    make = {"channels": 512, "init_omega": 0.5, "learn_omega": True}
    model = nnx.eval_shape(lambda: akorn_sudoku.Model(**make, rngs=nnx.Rngs(0)))
    sizes = [p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))]
    assert sum(sizes) == 2_982_412
    trained = jax.tree.leaves(train_state.split(model)[1])
    assert sum(p.size for p in trained) == 2_982_412 - 512 * 81


def test_the_loss_is_over_all_cells_and_the_accuracy_over_blanks(drawn):
    class Oracle(nnx.Module):
        size = 4

        def __call__(self, puzzle, *, key, train):
            assert puzzle.dtype == jnp.int32
            del key, train
            wrong = jnp.asarray(drawn["solution"] % 4)  # the digit after the right one
            digits = jnp.where(puzzle > 0, wrong, jnp.asarray(drawn["solution"]) - 1)
            return akorn_sudoku.ModelOutput(logits=50.0 * jax.nn.one_hot(digits, 4))

    ctx = Context(jnp.zeros((), jnp.int32), KEY, train=True)
    loss, aux = Task().loss(Oracle(), drawn, ctx)
    np.testing.assert_allclose(loss, 50 * drawn["given"].mean(), rtol=1e-5)
    assert aux.metrics["cell_accuracy"] == aux.metrics["board_accuracy"] == 1
    with pytest.raises(UserError, match=r"config\.model\.size=4: the boards have 9 rows"):
        Task().init_model(Oracle(), {"puzzle": np.zeros((1, 9, 9))})


def test_the_first_of_many_starts_is_that_of_one(akorn, drawn):
    config = base.get_config()
    config.eval.batch_size = 3
    examples = Examples(None, None, drawn, np.arange(4), np.zeros(4, int))

    def run(starts):
        def logits(output, batch):
            return output.logits

        return collect(predict(akorn, Task(), examples, config, reduce=logits, starts=starts))

    many, one = run(3), run(None)
    assert many.shape == (4, 3, 4, 4, 4)
    np.testing.assert_allclose(many[:, 0], one, atol=1e-6)
    assert np.abs(many[:, 1] - many[:, 2]).min(axis=(1, 2, 3)).max() >= 0
    assert np.abs(many[:, 1] - many[:, 2]).max() > 1e-4


def test_a_run(tmp_path, monkeypatch):
    make_mesh = sharding.make_mesh
    one = jax.devices()[:1]
    monkeypatch.setattr(sharding, "make_mesh", lambda config: make_mesh(config, one))
    config = run_config.from_recipe("configs/sudoku_akorn.py:small")
    config.data_dir = str(tmp_path)
    prepare(config.data.name, tmp_path, max_records=24)
    config.data.train, config.data.test = (0, 16), (16, 24)
    config.model.channels, config.model.num_steps, config.model.heads = 8, 2, 2
    config.batch_size = config.eval.batch_size = 8
    config.num_steps = config.checkpoint_every = config.log_every = 2
    config.eval.num_starts, config.eval.options.num_steps = 2, 4
    workdir = epath.Path(tmp_path / "run")
    assert train.train(config, workdir) is train.Outcome.DONE
    evaluate.evaluate(config, workdir)
    summary = json.loads((workdir / "metrics.json").read_text())
    assert summary["curves"]["num_steps"]["at"] == [1, 2, 4]
    assert summary["options"] == {"num_steps": 4}
    assert 0 <= summary["cell_accuracy"] < 1
    assert (workdir / "figures" / "boards.png").exists()
    assert "blank cells" in report.write(config, workdir).read_text()
