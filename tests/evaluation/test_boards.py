"""Votes of random starts and accuracies of boards, against what they are by hand."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import boards
from akorn_jax.outputs import ModelOutput, readout_steps
from akorn_jax.tasks.boards import Task

SOLUTION = np.array([[1, 2], [2, 1]])
PUZZLE = np.array([[1, 0], [0, 0]])  # three blanks
GOOD, ONE_WRONG, ALL_WRONG = SOLUTION, np.array([[1, 2], [2, 2]]), 3 - SOLUTION


def evaluator(num_starts, num_steps=4):
    config = ConfigDict({"model": {"num_steps": num_steps}})
    config.eval = ConfigDict({"num_starts": num_starts, "options": {}, "baselines": True})
    return boards.Evaluator(config, Task())


def examples(count=1, **fields):
    arrays = {"puzzle": PUZZLE, "solution": SOLUTION, "singles": ONE_WRONG, **fields}
    arrays = {name: np.stack([a] * count).astype(np.uint8) for name, a in arrays.items()}
    return Examples(None, None, arrays, np.arange(count), np.zeros(count, int))


def test_given_cells_are_not_looked_at():
    given_wrong = SOLUTION.copy()
    given_wrong[0, 0] = 2
    found = boards.right(
        np.stack([GOOD, ONE_WRONG, ALL_WRONG, given_wrong])[None], PUZZLE, SOLUTION
    )
    scores = boards.accuracies(found, PUZZLE)
    np.testing.assert_allclose(scores["board_accuracy"], [2 / 4])
    np.testing.assert_allclose(scores["cell_accuracy"], [(1 + 2 / 3 + 0 + 1) / 4])
    full = boards.accuracies(boards.right(GOOD, SOLUTION, SOLUTION)[None, None], SOLUTION)
    assert full["board_accuracy"] == 1
    assert np.isnan(full["cell_accuracy"])


def test_votes():
    digits = np.array([[[ALL_WRONG, ONE_WRONG, GOOD, ONE_WRONG]]])
    output = {"digits": digits, "summed": np.array([[[3, 2, 1, 0]]])}
    output["last"] = np.array([[[1, 1, 0, 1]]])
    found = boards.votes(output, PUZZLE[None], SOLUTION[None])
    assert list(found) == ["summed", "last", "majority", "rules checked"]
    expected = (ONE_WRONG, GOOD, ONE_WRONG, GOOD)
    for name, digits in zip(found, expected, strict=True):
        np.testing.assert_array_equal(found[name][0, 0], digits, name)


def test_of_as_many_votes_the_smallest_digit_wins():
    digits = np.array([[3, 1, 3, 1], [2, 3, 3, 1]]).reshape(1, 2, 4, 1, 1)
    digits = np.broadcast_to(digits, (1, 2, 4, 3, 3))
    np.testing.assert_array_equal(boards.majority(digits)[0, :, 0, 0], [1, 3])


def kept(starts, energies=None):
    """One board's starts `[K, S, n, n]` as `predict` gives them."""
    found = {"digits": np.array(starts)[None].astype(np.uint8)}
    if energies is not None:
        found["least energy, summed"] = np.array(energies, float)[None]
    return iter([found])


def test_scores_and_curves():
    right, wrong = [ALL_WRONG, ONE_WRONG, GOOD], [ALL_WRONG, ALL_WRONG, ONE_WRONG]
    energies = [[0, 1, 2], [0, 1, 3], [0, 0, 1], [0, 0, 4]]  # of the third the least at the end
    trained = kept([right, wrong, right, wrong], energies)
    result = evaluator(4).score(
        {"trained": trained, "untrained": kept([wrong] * 4, energies)}, examples()
    )
    assert readout_steps(4) == [1, 2, 4]
    steps, starts = result.summary["curves"]["num_steps"], result.summary["curves"]["num_starts"]
    assert steps["at"] == starts["at"] == [1, 2, 4]
    assert steps[boards.ONE] == [0, 0, 0.5]
    assert steps["least energy, summed"] == [0, 0, 1]
    assert starts[boards.ONE] == [0.5, 0.5, 0.5]
    assert starts["least energy, summed"] == [0.5, 1, 1]  # in both pairs the right one
    assert starts["rules checked"] == [0.5, 1, 1]
    methods = {name: scores["board_accuracy"] for name, scores in result.methods.items()}
    assert methods == {
        "trained": 0.5,
        "4 starts: least energy, summed": 1,
        "4 starts: majority": 1,  # of as many votes the smaller digit, 1, is right
        "4 starts: rules checked": 1,
        "untrained": 0,
        boards.SINGLES: 0,
    }
    assert result.summary["board_accuracy"] == 0.5
    np.testing.assert_allclose(result.methods[boards.SINGLES]["cell_accuracy"], 2 / 3)
    assert Image.open(io.BytesIO(result.pictures["boards"])).size == (700, 300)


def test_one_start_of_a_model_without_energies():
    result = evaluator(1, num_steps=1).score({"trained": kept([[GOOD]])}, examples())
    assert result.summary["board_accuracy"] == 1
    assert list(result.methods) == ["trained", boards.SINGLES]
    assert result.summary["curves"]["num_starts"] == {"at": [1], boards.ONE: [1.0]}


def test_energies_are_those_by_the_step_of_the_digits():
    energies = jnp.array([[0.0], [1], [10], [100], [1000], [10000]])  # [T + 1, B]
    logits = jnp.zeros((len(readout_steps(5)), 1, 2, 2, 2))
    output = ModelOutput(trajectory={"energies": (energies,), "logits": (logits,)})
    found = evaluator(1, num_steps=5).reduce(output, {})
    assert readout_steps(5) == [1, 2, 4, 5]
    np.testing.assert_array_equal(found["least energy, last"], [[1, 10, 1000, 10000]])
    np.testing.assert_array_equal(found["least energy, summed"], [[1, 11, 1111, 11111]])
    assert found["digits"].shape == (1, 4, 2, 2)


def test_wrong_input_is_one_line():
    with pytest.raises(UserError, match=r"config\.eval\.num_starts=0: give 1 or more"):
        evaluator(0)
    with pytest.raises(UserError, match="completes no boards; choose other"):
        evaluator(1).reduce(ModelOutput(), {})
    without = Examples(None, None, {}, np.arange(1), np.zeros(1, int))
    with pytest.raises(UserError, match="have no 'puzzle'; choose other"):
        evaluator(1).score({"trained": kept([[GOOD]])}, without)
