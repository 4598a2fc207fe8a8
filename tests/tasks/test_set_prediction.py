"""Set prediction: targets, matching, loss and evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import linear_sum_assignment

from akorn_jax import losses
from akorn_jax.data import properties
from akorn_jax.evaluation import set_prediction as evaluation
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Context
from akorn_jax.tasks.set_prediction import Task

KEY = jax.random.key(0)
CTX = Context(step=np.int32(0), key=KEY, train=True)


def scene(rng, batch_size=4, counts=(3, 1, 5, 4), max_objects=5):
    """Attributes as the CLEVR builders store them, `[B, 1 + max_objects]`."""
    attributes = {name: np.zeros((batch_size, 1 + max_objects), np.float32) for name in "xyz"}
    attributes["visibility"] = np.zeros((batch_size, 1 + max_objects), np.float32)
    attributes["visibility"][:, 0] = 1
    for name in properties.VALUES:
        attributes[name] = np.zeros((batch_size, 1 + max_objects), np.uint8)
    for b, count in enumerate(counts):
        objects = slice(1, 1 + count)
        attributes["visibility"][b, objects] = 1
        for name, values in properties.VALUES.items():
            attributes[name][b, objects] = rng.integers(1, 1 + len(values), count)
        attributes["x"][b, objects] = rng.uniform(-3, 3, count)
        attributes["y"][b, objects] = rng.uniform(-3, 3, count)
        attributes["z"][b, objects] = rng.choice([0.35, 0.7], count)
    return attributes


@pytest.fixture
def attributes():
    return scene(np.random.default_rng(0))


def test_targets(attributes):
    target = np.asarray(properties.encode(attributes))
    assert target.shape == (4, 5, properties.NUM_PROPERTIES) == (4, 5, 19)
    b, i = 2, 4
    row = target[b, i - 1]
    assert row[:3].argmax() == attributes["shape"][b, i] - 1
    assert row[3:5].argmax() == attributes["size"][b, i] - 1
    assert row[5:7].argmax() == attributes["material"][b, i] - 1
    assert row[7:15].argmax() == attributes["color"][b, i] - 1
    assert row[:15].sum() == 4
    position = [attributes[axis][b, i] for axis in "xyz"]
    np.testing.assert_allclose(6 * row[15:18] - 3, position, atol=1e-6)
    assert row[18] == 1
    assert not target[0, 3:].any(), "padding is zero"
    tight = np.asarray(properties.encode(attributes, "tight"))
    np.testing.assert_array_equal(
        tight[..., :17], np.where(target[..., 18:], target, tight)[..., :17]
    )
    np.testing.assert_allclose(tight[b, i - 1, 17], (position[2] - 0.35) / 0.35, atol=1e-6)
    np.testing.assert_allclose(tight[0, 3:, 15:], [[0.5, 0.5, -1, 0]] * 2, atol=1e-6)


def test_reads_tfds_clevr():
    objects = {
        "3d_coords": [[1.0, -2.0, 0.7], [0.5, 0.25, 0.35]],
        "color": [7, 3],  # cyan, yellow
        "material": [1, 0],  # metal, rubber
        "shape": [0, 2],  # cube, cylinder
        "size": [1, 0],  # large, small
    }
    fields = properties.from_tfds(objects, max_objects=3)
    assert fields.keys() == set(properties.FIELDS)
    for name, words in {
        "color": ("cyan", "yellow"),
        "material": ("metal", "rubber"),
        "shape": ("cube", "cylinder"),
        "size": ("large", "small"),
    }.items():
        expected = [1 + properties.VALUES[name].index(word) for word in words]
        assert fields[name].tolist() == [0, *expected, 0]
    np.testing.assert_allclose(fields["z"], [0, 0.7, 0.35, 0])
    assert fields["visibility"].tolist() == [1, 1, 1, 0]
    with pytest.raises(ValueError, match="2 objects, more than max_objects=1"):
        properties.from_tfds(objects, max_objects=1)


def test_huber():
    pred, target = np.zeros((1, 1, 2)), np.array([[[0.5, 3.0]]])
    np.testing.assert_allclose(losses.pairwise_huber(pred, target), [[[(0.125 + 2.5) / 2]]])


@pytest.mark.parametrize(("slots", "objects"), [(4, 4), (6, 3), (3, 5)])
def test_matching_has_the_least_cost(slots, objects):
    cost = np.random.default_rng(0).random((7, slots, objects), np.float32)
    pairs = np.asarray(losses.least_cost_pairs(jnp.asarray(cost)))
    assert pairs.shape == (7, min(slots, objects))
    for c, chosen in zip(cost, pairs, strict=True):
        np.testing.assert_allclose(chosen.sum(), c[linear_sum_assignment(c)].sum(), rtol=1e-5)


def test_gradient_goes_to_the_matched_alone():
    cost = jnp.array([[[1.0, 5.0], [2.0, 9.0], [8.0, 7.0]]])
    gradient = jax.grad(lambda c: losses.least_cost_pairs(c).sum())(cost)
    assert gradient.tolist() == [[[0, 1], [1, 0], [0, 0]]]


class Fixed(nnx.Module):
    """Predicts what it is given, whatever the image."""

    def __init__(self, logits):
        self.logits = nnx.Param(jnp.asarray(logits))

    def __call__(self, images, *, key, **_):
        return ModelOutput(logits=self.logits[...][: len(images)])


def test_loss_does_not_depend_on_the_order_of_objects_or_slots(attributes):
    rng = np.random.default_rng(1)
    logits = rng.random((4, 6, 19), np.float32)
    batch = {"image": np.zeros((4, 2, 2, 3), np.uint8), **attributes}
    loss, aux = Task().loss(Fixed(logits), batch, CTX)
    mean, _ = Task(reduction="mean").loss(Fixed(logits), batch, CTX)
    np.testing.assert_allclose(loss, 5 * mean, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["huber"], mean, rtol=1e-5)
    order = np.array([0, 4, 2, 1, 5, 3])
    shuffled = {name: values[:, order] for name, values in attributes.items()}
    again, _ = Task().loss(Fixed(logits[:, ::-1]), {**batch, **shuffled}, CTX)
    np.testing.assert_allclose(again, loss, rtol=1e-5)
    perfect = np.asarray(properties.encode(attributes))[:, ::-1]
    assert Task().loss(Fixed(perfect), batch, CTX)[0] == 0


def test_fewer_slots_than_room():
    """The loss is that of the data without the room that no scene needs."""
    rng = np.random.default_rng(2)
    logits = rng.random((4, 3, 19), np.float32)
    attributes = scene(rng, counts=(3, 1, 2, 3))
    batch = {"image": np.zeros((4, 2, 2, 3), np.uint8), **attributes}
    less = {"image": batch["image"]} | {name: a[:, :4] for name, a in attributes.items()}
    loss, _ = Task().loss(Fixed(logits), batch, CTX)
    np.testing.assert_allclose(loss, Task().loss(Fixed(logits), less, CTX)[0], rtol=1e-5)
    perfect = np.asarray(properties.encode(attributes))[:, 2::-1]
    assert Task().loss(Fixed(perfect), batch, CTX)[0] == 0
    assert Task().loss(Fixed(0 * perfect), batch, CTX)[0] > 0.1, "objects are not left out"


def test_scores(attributes):
    target = np.asarray(Task().targets(attributes))
    assert evaluation.scores(target[:, ::-1], target) == dict.fromkeys(evaluation.THRESHOLDS, 1.0)
    shifted = target.copy()
    shifted[..., 15] += 0.4 / 6  # of the scene's width
    scores = evaluation.scores(shifted, target)
    assert scores["ap_inf"] == scores["ap_1"] == scores["ap_0.5"] == 1
    assert scores["ap_0.25"] == scores["ap_0.125"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"box": "round"}, "box='round' is unknown"), ({"reduction": "max"}, "reduction='max'")],
)
def test_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        Task(**wrong)
