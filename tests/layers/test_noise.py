import jax
import numpy as np
import pytest

from akorn_jax.layers.noise import Noise

KEY = jax.random.key(0)


def test_draws_depend_on_the_key_and_their_number_alone():
    a, b = Noise(KEY), Noise(KEY)
    np.testing.assert_array_equal(a.normal((4,)), b.normal((4,)))
    a.uniform((9, 9))
    b.permutation(3)
    np.testing.assert_array_equal(a.normal((4,)), b.normal((4,)))


def test_draws_differ():
    noise = Noise(KEY)
    draws = [np.asarray(noise.normal((8,))) for _ in range(4)]
    assert len({tuple(draw) for draw in draws}) == 4


def test_the_first_draw_is_the_keys():
    np.testing.assert_array_equal(Noise.of(KEY).normal((5,)), jax.random.normal(KEY, (5,)))


def test_uniform_numbers_have_logarithms():
    u = np.asarray(Noise(KEY).uniform((100_000,)))
    assert np.isfinite(np.log(u)).all()
    assert 0 < u.min() < 1e-3
    assert u.max() < 1
    assert abs(np.asarray(Noise(KEY).exponential((100_000,))).mean() - 1) < 0.02


def test_noise_stays_what_it_is():
    noise = Noise(KEY)
    assert Noise.of(noise) is noise
    with pytest.raises(ValueError, match="pass key="):
        Noise.of(None)
