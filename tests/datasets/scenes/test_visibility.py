"""Which objects of a scene show enough: bounds and counts against whole label maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.scenes import clevr, clevr_materials, clevrtex_like, layout, studio, visibility

SCENES = 40


def crowded(index):
    """A scene that keeps no distances: objects hide each other and leave the picture."""
    rng = np.random.default_rng([17, index])
    count = int(rng.integers(1, studio.MAX_OBJECTS + 1))
    rows = [
        {
            "x": x,
            "y": y,
            "rotation": rng.uniform(0, 360),
            "radius": rng.choice([0.2, 0.35, 0.7]),
            "kind": rng.integers(len(clevr.SHAPES)),
            "metal": 0.0,
        }
        for x, y in rng.uniform(-4.5, 4.5, (count, 2))
    ]
    rig = layout.camera_and_lights(rng)
    return studio.pack(rig["camera"], rig["lights"], rows, [(0, 0, 0)] * count)


@pytest.fixture(scope="module")
def judged():
    """Of each crowded scene: true counts of pixels, bounds, counts one object at a time."""
    solids = clevr_materials.SOLIDS

    @jax.jit
    def judge(scene):
        count = functools.partial(visibility.shown, scene, solids)
        return visibility.least_shown(scene, solids), jax.lax.map(
            count, jnp.arange(studio.MAX_OBJECTS)
        )

    found = []
    for index in range(SCENES):
        scene = crowded(index)
        labels = np.asarray(clevr._label_map(scene, 240, 320, clevr.Window()))
        true = np.bincount(labels.ravel(), minlength=1 + studio.MAX_OBJECTS)[1:]
        bound, shown = judge(scene)
        found.append((scene, true, np.asarray(bound), np.asarray(shown)))
    return found


def test_objects_counted_alone_have_the_pixels_of_the_label_map(judged):
    for scene, true, _, shown in judged:
        np.testing.assert_array_equal(shown[: scene.count], true[: scene.count])
    everything = np.concatenate([true[: scene.count] for scene, true, *_ in judged])
    assert (everything == 0).any()
    assert everything.max() > 4 * visibility.PART**2


def test_bounds_stay_below_the_counts_and_decide_most(judged):
    true = np.concatenate([true[: scene.count] for scene, true, *_ in judged])
    bound = np.concatenate([bound[: scene.count] for scene, _, bound, _ in judged])
    assert (bound <= true).all()
    enough = true >= layout.MIN_VISIBLE
    assert (bound[enough] >= layout.MIN_VISIBLE).mean() > 0.5
    assert all(np.isinf(bound[scene.count :]).all() for scene, _, bound, _ in judged)


def test_scenes_are_accepted_by_their_least_shown_object(judged):
    decide = clevr._every_object_shows
    accepted = [bool(decide(scene)) for scene, *_ in judged]
    expected = [(t[: scene.count] >= layout.MIN_VISIBLE).all() for scene, t, *_ in judged]
    assert accepted == expected
    assert 0 < sum(accepted) < SCENES


def test_scenes_accepted_are_those_that_whole_label_maps_accept(monkeypatch):
    scenes = [clevrtex_like.sample_scene(3, index) for index in range(8)]

    def by_labels(packed):
        labels = clevrtex_like._label_map(packed, 240, 320, clevr.Window())
        shown = np.bincount(np.asarray(labels).ravel(), minlength=1 + packed.count)[1:]
        return (shown >= layout.MIN_VISIBLE).all()

    monkeypatch.setattr(clevrtex_like, "_every_object_shows", by_labels)
    assert scenes == [clevrtex_like.sample_scene(3, index) for index in range(8)]
