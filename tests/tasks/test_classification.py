"""Cross-entropy on whatever gives logits; frozen backbones; labels that are no class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.data.augment import make
from akorn_jax.errors import UserError
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Context
from akorn_jax.tasks.classification import Task

RNG = np.random.default_rng(0)


class Linear(nnx.Module):
    """Logits of the mean colour; remembers how it was called."""

    def __init__(self, rngs, cells=()):
        self.map = nnx.Linear(3, 4, rngs=rngs)
        self.cells = cells
        self.calls = []

    def __call__(self, images, *, key=None, train=False, trajectory=False):
        self.calls.append((images.shape, train))
        logits = self.map(images.mean(axis=(1, 2)))
        shape = (len(images), *self.cells, 4)
        logits = logits.reshape(len(images), *[1] * len(self.cells), 4)
        return ModelOutput(logits=jnp.broadcast_to(logits, shape))


@pytest.fixture
def batch():
    images = RNG.integers(0, 256, (5, 12, 12, 3), np.uint8)
    return {"image": images, "label": np.array([0, 3, 1, 2, 0], np.uint8)}


def context(train=True):
    return Context(jnp.zeros((), jnp.int32), jax.random.key(0), train=train)


def test_loss_and_accuracy(batch):
    model = Linear(nnx.Rngs(0))
    loss, aux = Task().loss(model, batch, context())
    logits = np.asarray(model.map(batch["image"].mean(axis=(1, 2)) / 255))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probability[np.arange(5), batch["label"]]).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(
        aux.metrics["accuracy"], (logits.argmax(axis=1) == batch["label"]).mean()
    )


def test_a_class_per_cell(batch):
    """As puzzles have them: labels [B, 2, 3] for logits [B, 2, 3, n]."""
    task, model = Task(labels="digits"), Linear(nnx.Rngs(0), cells=(2, 3))
    cells = {"image": batch["image"], "digits": np.tile(batch["label"][:, None, None], (1, 2, 3))}
    task.init_model(model, cells)
    assert task.fields == ("image", "digits")
    loss, _ = task.loss(model, cells, context())
    np.testing.assert_allclose(
        loss, Task().loss(Linear(nnx.Rngs(0)), batch, context())[0], rtol=1e-5
    )


@pytest.mark.parametrize(("frozen", "train"), [(False, True), (True, False)])
def test_frozen_models_are_called_as_in_evaluation(batch, frozen, train):
    model = Linear(nnx.Rngs(0))
    Task(frozen=frozen).loss(model, batch, context())
    assert model.calls == [((5, 12, 12, 3), train)]


def test_augmentation_is_of_training_alone(batch):
    model = Linear(nnx.Rngs(0))
    task = Task(augmentation={"name": "rand_augment", "size": 8, "num_ops": 0})
    task.loss(model, batch, context(train=True))
    task.loss(model, batch, context(train=False))
    task.apply(model, batch, context(train=False))
    assert [shape for shape, _ in model.calls] == [(5, 8, 8, 3)] * 3
    assert task.evaluators == ("classification",)
    losses = [float(task.loss(model, batch, context(t))[0]) for t in (True, True, False)]
    assert losses[0] == losses[1] != losses[2]


def test_labels_that_are_no_class_are_refused(batch):
    model = Linear(nnx.Rngs(0))
    batch["label"][2] = 4
    with pytest.raises(UserError, match="label=4: the model has classes 0 to 3; set"):
        Task().init_model(model, batch)
    # Later batches are not looked at; their loss stops the training.
    assert np.isnan(Task().loss(model, batch, context())[0])
    batch["label"] = np.zeros((5, 2), np.uint8)
    with pytest.raises(UserError, match=r"labels of shape \(5, 2\) for logits of shape \(5, 4\)"):
        Task().init_model(model, batch)


def test_unknown_augmentations_are_refused():
    with pytest.raises(ValueError, match=r"augmentation.name='cutout' is unknown"):
        make({"name": "cutout"})
    with pytest.raises(ValueError, match=r"augmentation.flip: rand_augment has no such field"):
        make({"name": "rand_augment", "flip": 0.5})
