"""NT-Xent against the official implementation's values and gradients."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.losses import nt_xent

ARRAYS = dict(np.load(Path(__file__).parent / "fixtures" / "i_simclr.npz"))
CASES = sorted({name.split("/")[0] for name in ARRAYS if "/" in name})


@pytest.mark.parametrize("case", CASES)
def test_official_value_and_gradient(case):
    z, temperature = ARRAYS[f"{case}/z"], float(ARRAYS[f"{case}/temp"])
    normalize = bool(ARRAYS[f"{case}/normalize"])

    def loss(z):
        return nt_xent(z[:, 0], z[:, 1], temperature, normalize)

    value, gradient = jax.value_and_grad(loss)(z)
    np.testing.assert_allclose(value, ARRAYS[f"{case}/loss"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, ARRAYS[f"{case}/grad_z"], rtol=1e-4, atol=1e-6)


def test_one_pair_is_free():
    z = jax.random.normal(jax.random.key(0), (2, 1, 8))
    assert float(nt_xent(z[0], z[1], 0.1)) == 0.0


def test_zero_embedding_has_finite_gradient():
    z = jnp.zeros((2, 3, 8))
    assert jnp.isfinite(jax.grad(lambda z: nt_xent(z[0], z[1], 0.1))(z)).all()
