"""DCI: importances of planted codes, and the entropies against SciPy's."""

import numpy as np
import pytest
from scipy.stats import entropy

from akorn_jax.evaluation import dci

RNG = np.random.default_rng(0)
FACTORS = RNG.random((400, 4))


def scores(code, factors=FACTORS):
    R, _ = dci.importance(code, list(factors.T))
    np.testing.assert_allclose(R.sum(axis=0), 1)
    return dci.disentanglement(R), dci.completeness(R)


def test_the_identity_code_is_disentangled_and_complete():
    assert min(scores(FACTORS)) > 0.97
    assert min(scores(FACTORS[:, ::-1] * [1, -3, 0.1, 50])) > 0.97  # names and units do not matter


def test_a_rotation_is_neither():
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    assert max(scores((FACTORS - 0.5) @ rotation)) < 0.6


def test_a_code_may_be_disentangled_and_not_complete_and_the_other_way_round():
    noise = 0.02 * RNG.normal(size=(400, 4))
    twice = np.concatenate([FACTORS + noise, FACTORS - noise], axis=1)
    disentangled, complete = scores(twice)
    assert disentangled > 0.9
    assert complete < disentangled - 0.15
    pairs = FACTORS[:, [0, 2]] + 2 * (FACTORS[:, [1, 3]] > 0.5)  # two factors in each dimension
    factors = np.stack([FACTORS[:, 0], FACTORS[:, 1] > 0.5, FACTORS[:, 2], FACTORS[:, 3] > 0.5], 1)
    disentangled, complete = scores(pairs, factors)
    assert disentangled == pytest.approx(0.5, abs=0.05)  # 1 - log_4 2
    assert complete > 0.9


def test_classes_are_factors_too():
    classes = RNG.integers(0, 5, 400)
    R, forests = dci.importance(np.eye(5)[classes], [classes])
    assert R.shape == (5, 1)
    assert forests[0].score(np.eye(5)[classes], classes) == 1


def test_entropies_are_those_of_scipy():
    R = RNG.random((6, 3))
    D = R.sum(axis=1) @ (1 - entropy(R, base=3, axis=1)) / R.sum()
    assert dci.disentanglement(R) == pytest.approx(D)
    assert dci.completeness(R) == pytest.approx(np.mean(1 - entropy(R, base=6, axis=0)))


def test_what_is_not_defined():
    assert dci.disentanglement(np.ones((3, 1))) is None
    assert dci.completeness(np.ones((1, 3))) is None
    assert dci.disentanglement(np.zeros((3, 3))) is None
    assert dci.completeness(np.zeros((3, 3))) is None
    R = np.eye(3)
    R[2, 2] = 0  # a dimension and a factor that nothing is said of
    assert dci.disentanglement(R) == dci.completeness(R) == 1
