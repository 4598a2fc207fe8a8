"""Laws of Slot Attention, and an independent version of it in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from akorn_jax.layers.slot_attention import AGGREGATIONS, SlotAttention

B, N, K, D, S = 8, 20, 5, 6, 4


def make(aggregation="mean", gradient="unrolled", num_slots=K):
    """A layer whose every parameter is random."""
    arguments = {"num_slots": num_slots, "aggregation": aggregation, "gradient": gradient}
    graphdef, state = nnx.split(
        nnx.eval_shape(lambda: SlotAttention(D, S, hidden_size=8, **arguments, rngs=nnx.Rngs(0)))
    )
    rng = np.random.default_rng(0)
    # Mostly positive, as scales and variances are.
    numbers = jax.tree.map(lambda a: rng.uniform(0.1 if a.ndim == 0 else -0.5, 0.8, a.shape), state)
    return nnx.merge(graphdef, jax.tree.map(lambda a: jnp.asarray(np.float32(a)), numbers))


@pytest.fixture
def tokens():
    rng = np.random.default_rng(1)
    return np.float32(rng.normal(size=(B, N, D))), np.float32(rng.normal(size=(B, K, S)))


def run(layer, x, slots, **call):
    """The call, compiled as a whole, once per kind; running statistics stay."""
    graphdef, state = nnx.split(layer)
    return compiled(graphdef, tuple(call.items()))(state, x, slots)


@functools.cache
def compiled(graphdef, call):
    def forward(state, x, slots):
        return nnx.merge(graphdef, state, copy=True)(x, slots, **dict(call))

    return jax.jit(forward)


def in_numpy(layer, x, slots, num_iterations, train):
    """Algorithm 1 of arXiv 2006.15055 and table 1 of arXiv 2407.04170, in float64."""

    def norm(a, module):
        centred = a - a.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * np.float64(module.scale) + np.float64(module.bias)

    def dense(a, module):
        return a @ np.float64(module.kernel) + (0 if module.bias is None else module.bias[...])

    def scalars(u, axes):
        mean = u.mean(axes, keepdims=True)
        return mean, ((u - mean) ** 2).mean(axes, keepdims=True)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    x, h = norm(np.float64(x), layer.norm_inputs), np.float64(slots)
    k, v = dense(x, layer.to_k), dense(x, layer.to_v)
    Wx, Wh, bias = (
        np.float64(a[...]) for a in (layer.gru.input_kernel, layer.gru.state_kernel, layer.gru.bias)
    )
    for t in range(num_iterations):
        logits = np.einsum("bkd,bnd->bkn", dense(norm(h, layer.norm_slots), layer.to_q), k)
        attention = np.exp(logits / np.sqrt(S))
        attention = attention / attention.sum(1, keepdims=True)
        u = np.einsum("bkn,bnd->bkd", attention, v)
        mean = u / attention.sum(-1, keepdims=True)
        if layer.aggregation in ("scalar_batch_norm", "image_level"):
            norm_u = layer.norm_updates
            if layer.aggregation == "image_level":
                m, s2 = scalars(u, (1, 2))
            elif not train:
                m, s2 = norm_u.mean[...], norm_u.variance[...]
            elif t == 0:
                m, s2 = scalars(u, (0, 1, 2))
            u = norm_u.gamma[...] * (u - m) / np.sqrt(s2 + 1e-5) + norm_u.beta[...]
        elif layer.aggregation == "layer_norm":
            u = norm(u, layer.norm_updates)
        else:
            scaled = mean * layer.num_slots / slots.shape[1]
            u = {"mean": mean, "constant": u / N, "none": u, "scaled_mean": scaled}[
                layer.aggregation
            ]
        xz, xr, xn = np.split(u @ Wx + bias[0], 3, -1)
        hz, hr, hn = np.split(h @ Wh + bias[1], 3, -1)
        z, n = sigmoid(xz + hz), np.tanh(xn + sigmoid(xr + hr) * hn)
        h = (1 - z) * n + z * h
        h = h + dense(
            np.maximum(dense(norm(h, layer.norm_mlp), layer.mlp_hidden), 0), layer.mlp_out
        )
    return h, attention


@pytest.mark.parametrize(
    ("aggregation", "train"),
    [*((name, True) for name in AGGREGATIONS), ("scalar_batch_norm", False)],
)
def test_agrees_with_numpy(aggregation, train, tokens):
    """Also with another number of slots than in training."""
    x, slots = tokens
    layer = make(aggregation, num_slots=3)
    expected = in_numpy(layer, x, slots, 3, train)
    actual = run(layer, x, slots, num_iterations=3, train=train)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("aggregation", ["mean", "scalar_batch_norm"])
def test_permutations(aggregation, tokens):
    """Slots are a set, and so are the inputs."""
    x, slots = tokens
    layer = make(aggregation)
    out, attention = run(layer, x, slots)
    order = np.array([3, 0, 4, 1, 2])
    permuted, permuted_attention = run(layer, x, slots[:, order])
    np.testing.assert_allclose(permuted, out[:, order], atol=1e-5)
    np.testing.assert_allclose(permuted_attention, attention[:, order], atol=1e-5)
    reversed_out, reversed_attention = run(layer, x[:, ::-1], slots)
    np.testing.assert_allclose(reversed_out, out, atol=1e-5)
    np.testing.assert_allclose(reversed_attention, attention[..., ::-1], atol=1e-5)
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-6)
    assert np.abs(out - out[:, order]).max() > 1e-2, "the slots differ"


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
def test_attention_of_every_iteration(gradient, tokens):
    """Row t is what the layer returns after t + 1 iterations; the slots are the same."""
    x, slots = tokens
    layer = make("scalar_batch_norm", gradient=gradient)
    out, steps = run(layer, x, slots, num_iterations=3, trajectory=True)
    assert steps.shape == (3, B, K, N)
    for t in range(3):
        expected, attention = run(layer, x, slots, num_iterations=t + 1)
        np.testing.assert_allclose(steps[t], attention, atol=1e-6)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(steps.sum(axis=2), 1, atol=1e-6)
    assert np.abs(np.diff(steps, axis=0)).max(axis=(1, 2, 3)).min() > 1e-3, "iterations differ"
    order = np.array([3, 0, 4, 1, 2])
    _, permuted = run(layer, x, slots[:, order], num_iterations=3, trajectory=True)
    np.testing.assert_allclose(permuted, steps[:, :, order], atol=1e-5)


def gradients(layer, x, slots, num_iterations):
    """Of a loss to the parameters and the inputs; also the slots."""
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def loss(params, x):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        out, _ = layer(x, slots, num_iterations=num_iterations)
        return jnp.sum(out**2), out

    grad = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    return grad(params, x)


def test_implicit_gradient_is_that_of_the_last_iteration(tokens):
    x, slots = tokens
    unrolled, implicit = make(), make(gradient="implicit")
    before_last, _ = run(unrolled, x, slots, num_iterations=2)
    expected, _ = gradients(unrolled, x, before_last, 1)
    actual, out = gradients(implicit, x, slots, 3)
    through_all, out_unrolled = gradients(unrolled, x, slots, 3)
    np.testing.assert_allclose(out, out_unrolled, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), actual, expected
    )
    assert np.abs(through_all[1] - actual[1]).max() > 1e-3, "the early iterations matter"


@pytest.mark.parametrize("num_iterations", [1, 3])
def test_implicit_gradient_of_batch_statistics(num_iterations, tokens):
    """They belong to the first iteration: its gradient is theirs, if it is the last one too."""
    x, slots = tokens
    layer = make("scalar_batch_norm", gradient="implicit")
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def statistics(layer, x):
        k, v = (project(layer.norm_inputs(x)) for project in (layer.to_k, layer.to_v))
        u = jnp.einsum("bkn,bns->bks", layer.attend(slots, k), v)
        return k, v, (jnp.mean(u), jnp.var(u))

    def last_iteration(params, x):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        k, v, (mean, variance) = statistics(layer, x)
        if num_iterations > 1:
            mean, variance = fixed
        return jnp.sum(layer.step(before_last, k, v, (mean, variance))[0] ** 2)

    def implicit(params, x):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        return jnp.sum(layer(x, slots, num_iterations=num_iterations, train=True)[0] ** 2)

    k, v, fixed = statistics(layer, x)
    before_last = slots
    for _ in range(num_iterations - 1):
        before_last, _ = layer.step(before_last, k, v, fixed)
    both = [jax.jit(jax.grad(f, argnums=(0, 1)))(params, x) for f in (implicit, last_iteration)]
    for ours, theirs in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def temporary_bytes(gradient, num_iterations):
    layer = make(gradient=gradient)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def loss(params, x, slots):
        layer = nnx.merge(graphdef, params, rest)
        return jnp.sum(layer(x, slots, num_iterations=num_iterations)[0])

    shapes = jnp.zeros((B, 500, D)), jnp.zeros((B, K, S))
    lowered = jax.jit(jax.grad(loss)).lower(params, *shapes)
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_memory_of_the_implicit_gradient_is_constant_in_the_iterations():
    few, many = temporary_bytes("implicit", 4), temporary_bytes("implicit", 64)
    assert many == few
    assert temporary_bytes("unrolled", 64) > 4 * many


def test_running_statistics(tokens):
    x, slots = tokens
    layer = make("scalar_batch_norm")
    mean, variance = layer.norm_updates.mean, layer.norm_updates.variance
    before = float(mean[...]), float(variance[...])
    layer(x, slots)
    assert (float(mean[...]), float(variance[...])) == before, "evaluation changes nothing"
    k, v = (project(layer.norm_inputs(x)) for project in (layer.to_k, layer.to_v))
    u = np.einsum("bkn,bnd->bkd", layer.attend(slots, k), v)
    layer(x, slots, train=True)
    np.testing.assert_allclose(mean[...], 0.9 * before[0] + 0.1 * u.mean(), rtol=1e-5)
    np.testing.assert_allclose(variance[...], 0.9 * before[1] + 0.1 * u.var(), rtol=1e-5)


def test_batch_statistics_are_those_of_all_devices(tokens):
    graphdef, state = nnx.split(make("scalar_batch_norm"))

    @jax.jit
    def train(state, x, slots):
        layer = nnx.merge(graphdef, state, copy=True)
        out, _ = layer(x, slots, train=True)
        return out, layer.norm_updates.mean[...]

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = [jax.device_put(a, NamedSharding(mesh, P("data"))) for a in tokens]
    for one, eight in zip(train(state, *tokens), train(state, *sharded), strict=True):
        np.testing.assert_allclose(one, eight, rtol=1e-5)


def test_slots_stay_float32_where_parameters_are_not(tokens):
    layer = make()
    graphdef, state = nnx.split(layer)
    half = nnx.merge(graphdef, jax.tree.map(jnp.bfloat16, state))
    x, slots = tokens
    out, attention = run(half, jnp.bfloat16(x), slots)
    assert out.dtype == attention.dtype == jnp.float32
    np.testing.assert_allclose(out, run(layer, x, slots)[0], atol=0.2)


def test_slots_are_drawn_from_the_learned_gaussian():
    layer = make()
    drawn = layer.sample_slots(jax.random.key(0), 2000, 7)
    assert drawn.shape == (2000, 7, S)
    np.testing.assert_allclose(drawn.mean((0, 1)), layer.mu[0], atol=0.06)
    np.testing.assert_allclose(drawn.std((0, 1)), jnp.exp(layer.log_sigma[0]), rtol=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"aggregation": "median"}, "aggregation='median' is unknown"),
        ({"gradient": "exact"}, "gradient='exact' is unknown"),
        ({"aggregation": "scaled_mean"}, "needs num_slots"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        SlotAttention(D, S, hidden_size=8, rngs=nnx.Rngs(0), **wrong)


def test_refuses_no_iteration(tokens):
    with pytest.raises(ValueError, match="num_iterations=0"):
        make()(*tokens, num_iterations=0)
