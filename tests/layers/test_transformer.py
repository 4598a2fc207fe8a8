"""The autoregressive decoder: what a token may see, the cache, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.dropout import dropout
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.transformer import MultiHeadAttention, TransformerDecoder

B, L, K, C = 2, 5, 3, 8


def make(**chosen):
    options = {"num_blocks": 2, "dropout_rate": 0.5, **chosen}
    return TransformerDecoder(C, 2, **options, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def decode():
    """`decode(x, memory, key=None)`, compiled once for evaluation and once with dropout."""
    graphdef, state = nnx.split(make())

    @jax.jit
    def forward(state, x, memory, key=None):
        return nnx.merge(graphdef, state)(x, memory, None if key is None else Noise(key))

    return lambda *inputs: np.asarray(forward(state, *inputs))


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return rng.normal(size=(B, L, C)).astype("f4"), rng.normal(size=(B, K, C)).astype("f4")


@pytest.mark.parametrize("t", range(L))
def test_a_token_changes_itself_and_later_ones_only(decode, inputs, t):
    x, memory = inputs
    changed = x.copy()
    changed[:, t, 0] += 1
    moved = np.abs(decode(changed, memory) - decode(x, memory)).max(axis=(0, 2))
    assert (moved[:t] == 0).all()
    assert (moved[t:] > 1e-4).all()


def test_memory_is_a_set(decode, inputs):
    x, memory = inputs
    y = decode(x, memory)
    np.testing.assert_allclose(decode(x, memory[:, [2, 0, 1]]), y, atol=1e-6)
    assert np.abs(decode(x, memory + 1) - y).max() > 1e-3


def test_cached_decoding_is_decoding(decode, inputs):
    x, memory = inputs
    graphdef, state = nnx.split(make())

    @jax.jit
    def token_by_token(state, x, memory):
        decoder = nnx.merge(graphdef, state)

        def extend(caches, now):
            x_t, t = now
            y, caches = decoder.extend(x_t[:, None], caches, t)
            return caches, y[:, 0]

        steps = jnp.swapaxes(x, 0, 1), jnp.arange(L)
        _, y = jax.lax.scan(extend, decoder.start(memory, L), steps)
        return jnp.swapaxes(y, 0, 1)

    np.testing.assert_allclose(token_by_token(state, x, memory), decode(x, memory), atol=1e-6)


def test_dropout_is_random_and_only_in_training(decode, inputs):
    one, again, other = (decode(*inputs, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - decode(*inputs)).max() > 1e-3


def test_recomputation_changes_nothing(inputs):
    """Not even the masks of dropout, which the backward pass draws a second time."""
    plain, recomputed = make(), make(remat=True)
    graphdefs = [nnx.graphdef(decoder) for decoder in (plain, recomputed)]

    @jax.jit
    def gradients(state):
        def loss(state, graphdef):
            return jnp.sum(nnx.merge(graphdef, state)(*inputs, Noise(jax.random.key(3))) ** 3)

        return [jax.grad(loss)(state, graphdef) for graphdef in graphdefs]

    for a, b in zip(*map(jax.tree.leaves, gradients(nnx.state(plain))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_keeps_the_mean():
    x = jnp.ones((200, 200))
    dropped = dropout(x, 0.25, Noise(jax.random.key(0)))
    kept = np.asarray(dropped > 0)
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(dropped[kept], 4 / 3, rtol=1e-6)
    np.testing.assert_array_equal(dropout(x, 0.25, None), x)
    np.testing.assert_array_equal(dropout(x, 0.0, Noise(jax.random.key(0))), x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_blocks": 0}, "num_blocks=0: a transformer has at least 1 block"),
        ({"dropout_rate": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_refuses_heads_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match="channels=8 is not divisible by num_heads=3"):
        MultiHeadAttention(C, 3, dropout_rate=0.0, gain=1.0, rngs=nnx.Rngs(0))
