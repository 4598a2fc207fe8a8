"""Concepts of slots, and scenes of one slot of each."""

import jax
import numpy as np
import pytest

from akorn_jax.layers.noise import Noise
from akorn_jax.layers.slot_library import SlotLibrary

KEY = jax.random.key(0)


def blobs(rng, num_images):
    """Slots `[N, 3, 2]` of three concepts, far apart, in any order."""
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    centres = np.stack([rng.permutation(centres) for _ in range(num_images)])
    return (centres + rng.normal(size=centres.shape)).astype("f4")


def concept(slots):
    return np.asarray(slots).round(-1).astype(int) @ [1, 2] // 10  # 0, 1 or 2


def test_a_library_groups_slots_and_scenes_take_one_of_each_concept():
    library = SlotLibrary.of(blobs(np.random.default_rng(0), 40), num_concepts=3, key=KEY)
    assert library.slots.shape == (120, 2)
    np.testing.assert_array_equal(library.counts, [40, 40, 40])
    scenes = jax.jit(lambda key: library.compose(500, 3, Noise(key)))(KEY)
    assert scenes.shape == (500, 3, 2)
    np.testing.assert_array_equal(np.sort(concept(scenes)), np.tile([0, 1, 2], (500, 1)))
    assert len(np.unique(np.reshape(scenes, (-1, 2)), axis=0)) == 120, "every slot is used"
    pairs = library.compose(500, 2, Noise(KEY))
    assert (concept(pairs)[:, 0] != concept(pairs)[:, 1]).all()


def test_a_library_needs_as_many_concepts_as_it_is_asked_for():
    with pytest.raises(ValueError, match="form 1 clusters only"):
        SlotLibrary.of(np.zeros((4, 3, 2)), num_concepts=2, key=KEY)
    library = SlotLibrary.of(blobs(np.random.default_rng(0), 9), num_concepts=3, key=KEY)
    with pytest.raises(ValueError, match="num_slots=4 need as many concepts; the library has 3"):
        library.compose(1, 4, Noise(KEY))
