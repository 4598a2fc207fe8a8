"""Positions against the official tables, and at other resolutions."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akorn_jax.layers.position import GTA, rotations, sinusoidal_table

TABLES = dict(np.load(Path(__file__).parents[1] / "fixtures" / "p_tables.npz"))


@pytest.mark.parametrize("name", [n for n in TABLES if n.startswith("pe/")])
def test_sinusoidal_table(name):
    official = TABLES[name]
    channels, height, width = official.shape
    ours = sinusoidal_table(height, width, channels)
    np.testing.assert_allclose(ours, official.transpose(1, 2, 0), atol=2e-6)


@pytest.mark.parametrize("name", [n for n in TABLES if n.startswith("gta_init/")])
def test_matrices_at_the_start(name):
    _, case, which = name.split("/")
    channels, heads, grid = case.split("_")
    head_dim = int(channels.removeprefix("ch")) // int(heads.removeprefix("heads"))
    gta = GTA(tuple(int(n) for n in grid.split("x")), head_dim)
    ours = getattr(gta, which.removeprefix("mat_"))[...]
    np.testing.assert_allclose(ours, TABLES[name], atol=1e-6)


def test_gta_starts_as_rotations_that_the_output_undoes():
    gta = GTA((3, 4), 8)
    tokens = jax.random.normal(jax.random.key(0), (2, 5, 12, 8))
    turned = gta.apply("v", tokens, (3, 4))
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(tokens, axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(gta.apply("o", turned, (3, 4)), tokens, atol=1e-5)
    np.testing.assert_allclose(turned[:, :, 0], tokens[:, :, 0], atol=1e-6)  # position (0, 0)


def test_queries_and_keys_see_relative_positions():
    gta = GTA((4, 4), 8)
    same = jnp.ones((16, 8))
    q, k = gta.apply("q", same, (4, 4)), gta.apply("k", same, (4, 4))
    logits = np.asarray(q @ k.T).reshape(4, 4, 4, 4)
    np.testing.assert_allclose(logits[0, 0, 1, 1], logits[2, 2, 3, 3], rtol=1e-5)
    assert abs(logits[0, 0, 1, 1] - logits[0, 0, 3, 3]) > 0.01


def test_other_resolutions_stretch_positions():
    gta = GTA((4, 4), 8)
    matrices = rotations(4, 4, 8)
    tokens = jax.random.normal(jax.random.key(0), (64, 8))
    turned = gta.apply("q", tokens, (8, 8)).reshape(8, 8, 8)
    # The corner token is nearest to the corner's matrix alone (edges are clamped).
    a, b = np.split(np.asarray(tokens[0]), 2)
    corner = matrices[0]
    expected = np.concatenate(
        [
            corner[:, 0, 0] * a + corner[:, 0, 1] * b,
            corner[:, 1, 0] * a + corner[:, 1, 1] * b,
        ]
    )
    np.testing.assert_allclose(turned[0, 0], expected, atol=1e-6)


def test_odd_heads_are_refused():
    with pytest.raises(ValueError, match="head_dim=3 must be even"):
        GTA((2, 2), 3)


def test_table_needs_four_channels():
    with pytest.raises(ValueError, match="channels=6 must be divisible by 4"):
        sinusoidal_table(2, 2, 6)
