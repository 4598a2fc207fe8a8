"""The LSTM against its equations in NumPy, gate by gate."""

import jax
import numpy as np
from flax import nnx

from akorn_jax.layers.lstm import LSTM

D_IN, D = 3, 4


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_agrees_with_its_equations():
    lstm = LSTM(D_IN, D, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2, D_IN)).astype(np.float32)
    h, c = rng.normal(size=(2, 5, 2, D)).astype(np.float32)
    W, U, biases = (np.asarray(p[...]) for p in (lstm.input_kernel, lstm.state_kernel, lstm.bias))

    def gate(n):
        block = slice(n * D, (n + 1) * D)
        return x @ W[:, block] + biases[0, block] + h @ U[:, block] + biases[1, block]

    i, f, g, o = (gate(n) for n in range(4))
    c_next = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    ours = jax.jit(lstm)(x, (h, c))
    np.testing.assert_allclose(ours[0], sigmoid(o) * np.tanh(c_next), atol=1e-6)
    np.testing.assert_allclose(ours[1], c_next, atol=1e-6)


def test_starts_as_pytorchs():
    """All uniform in ±1 / sqrt(D), from a state of zeros."""
    lstm = LSTM(D_IN, 100, rngs=nnx.Rngs(0))
    for parameter in (lstm.input_kernel, lstm.state_kernel, lstm.bias):
        assert 0.09 < np.abs(parameter[...]).max() <= 0.1
    for state in lstm.initial_state((2, 3)):
        assert state.shape == (2, 3, 100)
        assert not state.any()
