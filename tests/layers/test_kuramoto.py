"""Laws of the Kuramoto update (AKOrN, arXiv 2410.13821)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.kuramoto import (
    KuramotoLayer,
    Omega,
    kuramoto,
    normalize,
    project,
    sum_over_oscillators,
)

N, G = 4, 3  # oscillator dimension and oscillators a position
SHAPE = (2, 3, 3, N * G)


def draw(seed, shape=SHAPE):
    return jax.random.normal(jax.random.key(seed), shape)


def coupling(seed, symmetric=True):
    """A linear J that mixes positions and oscillators by numbers, alike in all N dimensions."""
    size = 9 * G
    weights = np.asarray(draw(seed, (size, size))) / size**0.5
    weights = (weights + weights.T) / 2 if symmetric else weights

    def J(x):
        flat = x.reshape(len(x), size, N)
        return jnp.einsum("ij,bjn->bin", weights, flat).reshape(x.shape)

    return J


def run(x, c, J, **kwargs):
    options = {"num_steps": 6, "gamma": 1.0, "oscillator_dim": N, "trajectory": True, **kwargs}
    return jax.jit(lambda x, c: kuramoto(x, c, J, **options))(x, c)


def norms(x):
    return jnp.linalg.norm(x.reshape(*x.shape[:-1], G, N), axis=-1)


@pytest.mark.parametrize("identity_drift", [True, False])
@pytest.mark.parametrize("tangent", [True, False])
def test_oscillators_stay_on_the_sphere(identity_drift, tangent):
    _, (xs, _) = run(draw(0), draw(1), coupling(2), identity_drift=identity_drift, tangent=tangent)
    np.testing.assert_allclose(norms(xs), 1, atol=1e-6)


def test_a_clamp_takes_the_place_of_the_sphere():
    """Where no component reaches the border, the step is that of the unconstrained equation."""
    x, c = 0.3 * jnp.tanh(draw(0)), 0.1 * jnp.tanh(draw(1))
    _, (xs, _) = run(x, c, jnp.zeros_like, sphere=False, identity_drift=False, tangent=False)
    np.testing.assert_allclose(xs[1:3], jnp.stack([x + c, x + 2 * c]), atol=1e-6)
    _, (xs, _) = run(10 * x, c, coupling(2), sphere=False)
    assert jnp.abs(xs).max() == 1
    assert norms(xs).std() > 0.1


def test_without_coupling_no_position_sees_another():
    module = layer(connectivity="mlp")
    x, c = draw(0, (1, 3, 3, 8)), draw(1, (1, 3, 3, 8))

    @jax.jit
    @jax.grad
    def gradient(c):
        return jnp.sum(module(x, c, num_steps=3, gamma=jnp.ones(1))[0][0, 0, 0] * draw(4, (8,)))

    touched = jnp.abs(gradient(c)).sum(axis=-1)[0] > 0
    assert touched.sum() == 1
    assert touched[0, 0]


def test_forces_are_tangent():
    x = normalize(draw(0), N)
    force = project(draw(1), x, N)
    inner = jnp.sum((force * x).reshape(*SHAPE[:-1], G, N), axis=-1)
    np.testing.assert_allclose(inner, 0, atol=1e-6)


def test_energy_falls_where_j_is_symmetric_and_the_step_small():
    """With c = 0 the step follows the energy's negative gradient, which is 2 J x."""
    zero = jnp.zeros(SHAPE)
    _, (_, energy) = run(draw(0), zero, coupling(2), num_steps=40, gamma=0.05, identity_drift=False)
    assert (np.diff(energy, axis=0) < 0).all()


def test_energy_need_not_fall_where_j_is_not_symmetric():
    zero = jnp.zeros(SHAPE)
    _, (_, energy) = run(
        draw(0),
        zero,
        coupling(2, symmetric=False),
        num_steps=300,
        gamma=0.05,
        identity_drift=False,
    )
    assert (np.diff(energy, axis=0) > 0).any()


def test_rotating_all_oscillators_rotates_the_trajectory():
    rotation, _ = np.linalg.qr(draw(5, (N, N)))

    def turn(x):
        return (x.reshape(*x.shape[:-1], G, N) @ rotation).reshape(x.shape)

    x, c, J = draw(0), draw(1), coupling(2)
    _, (xs, energy) = run(x, c, J)
    _, (turned, turned_energy) = run(turn(x), turn(c), J)
    np.testing.assert_allclose(turned, turn(xs), atol=1e-5)
    np.testing.assert_allclose(turned_energy, energy, rtol=1e-4)


def test_identity_drift_is_a_shorter_step():
    """normalize((1 + g) x + g p) is normalize(x + g / (1 + g) p)."""
    x, c, J = draw(0), draw(1), coupling(2)
    with_drift, _ = run(x, c, J, gamma=1.0)
    shorter, _ = run(x, c, J, gamma=0.5, identity_drift=False)
    np.testing.assert_allclose(with_drift, shorter, atol=1e-5)


def test_energies_are_those_of_each_state():
    x, c, J = normalize(draw(0), N), draw(1), coupling(2)
    last, (xs, energy) = run(x, c, J)
    np.testing.assert_allclose(xs[0], x, atol=1e-6)
    np.testing.assert_array_equal(xs[-1], last)
    expected = [-jnp.sum(y * (c + J(y)), axis=(1, 2, 3)) for y in xs]
    np.testing.assert_allclose(energy, jnp.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["remat", "unroll"])
def test_options_of_speed_change_nothing(option):
    x, c, J = draw(0), draw(1), coupling(2)

    def loss(c, **options):
        return jnp.sum(run(x, c, J, **options)[0] * draw(3))

    plain, other = (jax.grad(loss)(c, **{option: value}) for value in (False, True))
    np.testing.assert_allclose(other, plain, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5, 8, 4), (2, 6, 2), (1, 3, 5)])
def test_sums_over_oscillators_do_not_depend_on_the_device(shape, monkeypatch):
    v = jax.random.normal(jax.random.key(0), shape)
    flat = v.reshape(*shape[:-2], -1)
    expected = jnp.broadcast_to(jnp.sum(v, -1, keepdims=True), shape).reshape(flat.shape)
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        np.testing.assert_allclose(sum_over_oscillators(flat, shape[-1]), expected, atol=1e-5)


def test_zero_vectors_stay_and_have_finite_gradients():
    zero = jnp.zeros((1, 1, 1, N))
    assert (normalize(zero, N) == 0).all()
    assert jnp.isfinite(jax.grad(lambda v: jnp.sum(normalize(v, N)))(zero)).all()


def test_omega_turns_and_keeps_lengths():
    omega = Omega(N * G, init=0.7, shared=False, learn=True)
    x = draw(0)
    turned = omega(x)
    np.testing.assert_allclose(jnp.sum(turned * x, axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), 0.7 * jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )


def test_official_omega():
    tables = np.load(Path(__file__).parents[1] / "fixtures" / "p_tables.npz")
    omega = Omega(8, init=1.0, shared=False, learn=True)
    omega.vectors[...] = jnp.array(tables["omega/param"])
    ours = omega(jnp.array(tables["omega/x"]).transpose(0, 2, 3, 1))
    np.testing.assert_allclose(ours, tables["omega/out"].transpose(0, 2, 3, 1), atol=1e-6)


def test_omega_that_is_not_learned_has_no_parameters():
    omega = Omega(8, init=1.0, shared=True, learn=False)
    assert not nnx.state(omega, nnx.Param)


def layer(**kwargs):
    options = {
        "oscillator_dim": N, "grid": (3, 3), "connectivity": "attn", "heads": 2, "kernel_size": 3,
        "gta": True, "stimulus_norm": "none", "use_omega": False, "global_omega": True,
        "init_omega": 1.0, "learn_omega": True, "tangent": True, "identity_drift": True,
        "remat": False,
        "unroll": False,
    }  # fmt: skip
    return KuramotoLayer(8, **{**options, **kwargs}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"oscillator_dim": 3}, "channels=8 is not divisible by oscillator_dim=3"),
        ({"heads": 3}, "channels=8 is not divisible by heads=3"),
        ({"connectivity": "lstm"}, "connectivity='lstm' is unknown"),
        ({"connectivity": "conv", "kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"stimulus_norm": "bn"}, "stimulus_norm='bn' is unknown"),
        ({"oscillator_dim": 1, "use_omega": True}, "oscillator_dim=1 must be even"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layer(**kwargs)


@pytest.mark.parametrize("stimulus_norm", ["none", "gn", "sandb"])
@pytest.mark.parametrize("connectivity", ["attn", "conv", "mlp"])
def test_layers_keep_the_shape(connectivity, stimulus_norm):
    def call(x, c):
        module = layer(connectivity=connectivity, stimulus_norm=stimulus_norm, use_omega=True)
        return module(x, c, num_steps=2, gamma=jnp.ones(1))[0]

    x = jax.ShapeDtypeStruct((2, 3, 3, 8), jnp.float32)
    assert jax.eval_shape(call, x, x).shape == x.shape


@pytest.mark.parametrize("connectivity", ["attn", "conv"])
def test_oscillators_stay_on_the_sphere_where_couplings_are_bfloat16(connectivity):
    layer = KuramotoLayer(
        16,
        oscillator_dim=N,
        grid=(3, 3),
        connectivity=connectivity,
        heads=2,
        kernel_size=3,
        gta=True,
        stimulus_norm="gn",
        use_omega=True,
        global_omega=False,
        init_omega=0.1,
        learn_omega=True,
        tangent=True,
        identity_drift=True,
        remat=True,
        unroll=False,
        rngs=nnx.Rngs(0),
    )
    graphdef, state = nnx.split(layer)
    half = nnx.merge(graphdef, jax.tree.map(jnp.bfloat16, state))
    x, c = draw(0, (2, 3, 3, 16)), draw(1, (2, 3, 3, 16))
    assert half.J(x).dtype == jnp.bfloat16

    def call(module):
        return jax.jit(lambda x, c: module(x, c, num_steps=8, gamma=jnp.ones(1))[0])(x, c)

    out = call(half)
    assert out.dtype == jnp.float32
    lengths = jnp.linalg.norm(out.reshape(*out.shape[:-1], -1, N), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    np.testing.assert_allclose(out, call(layer), atol=0.1)
