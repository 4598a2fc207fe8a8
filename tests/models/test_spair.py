"""SPAIR: laws of its parts, and what it refuses."""

import itertools
from fractions import Fraction
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.count_prior import count_prior, geometric_prior
from akorn_jax.layers.noise import Noise
from akorn_jax.models import spair

SMALL = {
    "image_size": 16,
    "backbone_channels": (4, 4),
    "backbone_groups": (1, 1),
    "feature_size": 4,
    "feature_groups": 1,
    "anchor_size": 8,
    "glimpse_size": 4,
    "what_size": 3,
    "pass_size": 2,
    "hidden_size": 4,
    "encoder_hidden": (4,),
    "decoder_channels": 2,
    "background_size": 2,
    "background_channels": (2, 2),
    "background_hidden": 4,
}
NUM_CELLS = 16


@pytest.fixture(scope="module")
def model():
    """With random numbers in place of initial ones, which take longer to compile."""
    rng = np.random.default_rng(0)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: spair.Model(**SMALL, rngs=nnx.Rngs(0))))

    def fill(a):
        return jnp.asarray(0.2 * np.abs(rng.normal(size=a.shape)), a.dtype)

    return nnx.merge(graphdef, jax.tree.map(fill, state))


class Changed(Noise):
    """The draws of a key, where those of one cell are others."""

    def __init__(self, key, cell):
        super().__init__(key)
        self.cell = cell

    def normal(self, shape):
        return self._change(super().normal(shape))

    def uniform(self, shape):
        return self._change(super().uniform(shape))

    def _change(self, draws):
        if len(draws) != NUM_CELLS:
            return draws
        return jnp.where(jnp.arange(NUM_CELLS)[:, None, None] == self.cell, 0.5 * draws, draws)


@pytest.fixture(scope="module")
def infer(model):
    """Cells of an image whose draws are others in one cell, -1: in none."""
    images = jax.random.uniform(jax.random.key(1), (1, 16, 16, 3))

    @jax.jit
    def infer(cell):
        noise = Changed(jax.random.key(0), cell)
        return model.infer(images, noise, train=False, temperature=1.0, presence_prior=0.5)

    return infer


def test_a_cell_sees_only_what_was_before_it(infer):
    """Neighbours above and to the left hear of a cell, at one or more steps; no other does."""
    changed = 5  # row 1, column 1
    before, after = infer(-1), infer(changed)
    moved = jnp.any(before.where.mean != after.where.mean, axis=(0, 2)).reshape(4, 4)
    # Below and beside it: from the cell itself to the right, and all rows below within reach.
    expected = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(moved, expected)


def test_presence_is_hard_at_evaluation(infer):
    assert set(np.unique(infer(-1).z_pres)) <= {0.0, 1.0}


def test_hard_presence_has_the_gradient_of_the_relaxed(model):
    images = jax.random.uniform(jax.random.key(1), (1, 16, 16, 3))
    graphdef, params = nnx.split(model)

    def total(params, train):
        cells = nnx.merge(graphdef, params).infer(
            *(images, Noise(jax.random.key(0))), train=train, temperature=1.0, presence_prior=0.5
        )
        return jnp.sum(cells.z_pres[:, 0])  # the first cell has no neighbours

    relaxed, hard = (jax.jit(jax.grad(total), static_argnums=1)(params, t) for t in (True, False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), relaxed, hard)
    assert max(jnp.abs(g).max() for g in jax.tree.leaves(hard)) > 0


@pytest.mark.parametrize("p", [0.1, 0.7, 1.0])
def test_count_prior_is_the_conditional_of_the_joint(p):
    """All 2^4 scenes: n objects have weight p^n, and all arrangements are alike."""
    N = 4
    total = sum(p**n for n in range(N + 1))

    def joint(scene):
        n = sum(scene)
        return p**n / total / comb(N, n)

    for scene in itertools.product((0, 1), repeat=N):
        belief, count = geometric_prior(p, 1, N), jnp.zeros((1, 1))
        for i in range(N):
            seen = [s for s in itertools.product((0, 1), repeat=N) if s[:i] == scene[:i]]
            expected = sum(joint(s) for s in seen if s[i]) / sum(map(joint, seen))
            present = jnp.full((1, 1), scene[i])
            prior, belief = count_prior(belief, count, present, N - i)
            count += present
            np.testing.assert_allclose(prior[0, 0], np.clip(expected, 1e-6, 1 - 1e-6), rtol=1e-5)


def test_count_prior_outlives_float32():
    """P(16 objects) = 1e-64 of all, and still the only belief that is left."""
    N, p = 16, Fraction(1, 10_000)
    belief, count = geometric_prior(float(p), 1, N), jnp.zeros((1, 1))
    one = jnp.ones((1, 1))
    for i in range(N):
        prior, belief = count_prior(belief, count, one, N - i)
        count += one
        weights = [p**n / comb(N, n) * comb(N - i, n - i) for n in range(i, N + 1)]
        right = [w * Fraction(n - i, N - i) for n, w in enumerate(weights, start=i)]
        expected = float(sum(right) / sum(weights))
        np.testing.assert_allclose(prior[0, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(belief[0, -1]), 1, rtol=1e-6)


def test_renderings_agree_on_one_object():
    """Where one opaque object is, both show it, and elsewhere the background."""
    patches = jnp.zeros((1, 2, 4, 4, 3)).at[:, 0].set(0.8)
    masks = jnp.zeros((1, 2, 4, 4, 1)).at[:, 0, :2].set(1.0)
    depth = jnp.full((1, 2, 1, 1, 1), 0.9)
    background = jnp.full((1, 1, 4, 4, 3), 0.2)
    average = spair.average(patches, masks, depth, background)
    nearest, alpha = spair.nearest(patches, masks, depth, background)
    for image in (average, nearest):
        np.testing.assert_allclose(image[0, 2:], 0.2, atol=1e-6)
        np.testing.assert_allclose(image[0, :2], 0.8, atol=0.02)
    np.testing.assert_allclose(alpha[0, ..., 0], masks[0, 0, ..., 0], atol=1e-6)


def test_the_nearest_of_two_wins():
    patches = jnp.stack([jnp.full((4, 4, 3), 0.9), jnp.full((4, 4, 3), 0.1)])[None]
    masks, background = jnp.ones((1, 2, 4, 4, 1)), jnp.zeros((1, 1, 4, 4, 3))
    depth = jnp.array([0.001, 0.9])[None, :, None, None, None]
    assert spair.average(patches, masks, depth, background).min() > 0.85  # small is near
    assert spair.nearest(patches, masks, depth, background)[0].max() < 0.15  # large is near


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_size": 18}, "image_size=18"),
        ({"backbone": "small"}, "backbone='small'"),
        ({"backbone_groups": (1,)}, "backbone_groups"),
        ({"anchor_size": 0}, "anchor_size=0"),
        ({"rendering": "painter"}, "rendering='painter'"),
    ],
)
def test_what_does_not_fit_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        nnx.eval_shape(lambda: spair.Model(**{**SMALL, **change}, rngs=nnx.Rngs(0)))


def test_images_of_another_size_are_refused(model):
    with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\).*image_size"):
        model(jnp.zeros((1, 8, 8, 3)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="key"):
        model(jnp.zeros((1, 16, 16, 3)))
