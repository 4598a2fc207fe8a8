"""The convolutional LSTM, at the extremes of its gates."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.conv_lstm import ConvLSTM


def stepped(i, f, o):
    """(c, next h, next c) with the gates' biases at i, f, o and at 1 for the candidate."""
    lstm = ConvLSTM(2, 3, 4, rngs=nnx.Rngs(0))
    lstm.gates.kernel[...] = jnp.zeros_like(lstm.gates.kernel[...])
    lstm.gates.bias[...] = jnp.repeat(jnp.array([i, f, o, 1.0]), 3)
    h, c = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
    return c, *lstm(jnp.ones((1, 4, 4, 2)), (h, c))


def test_gates():
    c, h, kept = stepped(i=-50.0, f=50.0, o=50.0)
    np.testing.assert_allclose(kept, c, atol=1e-6)
    np.testing.assert_allclose(h, np.tanh(c), atol=1e-6)
    _, h, replaced = stepped(i=50.0, f=-50.0, o=-50.0)
    np.testing.assert_allclose(replaced, np.tanh(1.0), atol=1e-6)
    np.testing.assert_allclose(h, 0, atol=1e-6)


def test_the_initial_state_is_learned():
    lstm = ConvLSTM(2, 3, 4, rngs=nnx.Rngs(0))
    lstm.c_0[...] = jnp.ones((4, 4, 3))
    h, c = lstm.initial_state(5)
    assert h.shape == c.shape == (5, 4, 4, 3)
    assert not h.any()
    assert (c == 1).all()
