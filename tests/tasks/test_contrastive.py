"""With labels, views of a class attract each other; without, views of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax import losses
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Context
from akorn_jax.tasks.contrastive import Task

RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (6, 10, 10, 3), np.uint8),
    "label": np.array([0, 1, 0, 2, 2, 1], np.uint8),
}


class Colors(nnx.Module):
    def __call__(self, images, *, key=None, train=False, trajectory=False):
        return ModelOutput(embedding=images.mean(axis=(1, 2)) - 0.4)


def loss(**fields):
    rand_augment = {"name": "rand_augment", "size": 8, "num_ops": 0}
    settings = {"temperature": 0.2, "normalize": True, "augmentation": rand_augment, **fields}
    task = Task(**settings)
    ctx = Context(jnp.zeros((), jnp.int32), jax.random.key(0), train=True)
    return float(jax.jit(lambda batch: task.loss(Colors(), batch, ctx)[0])(BATCH))


def test_classes_and_images():
    """SupCon where each image is a class of its own is SimCLR's loss; otherwise it is not."""
    alone = loss()
    supervised = loss(labels="label")
    assert abs(alone - supervised) > 1e-2
    np.testing.assert_allclose(
        loss(labels="label", base_temperature=0.1), 2 * supervised, rtol=1e-5
    )
    own, BATCH["label"] = BATCH["label"], np.arange(6, dtype=np.uint8)
    np.testing.assert_allclose(loss(labels="label"), alone, rtol=1e-5)
    BATCH["label"] = own


def test_fields():
    task = Task(temperature=0.1, normalize=True, augmentation={"size": 8}, labels="label")
    assert task.fields == ("image", "label")
    plain = Task(temperature=0.1, normalize=True, augmentation={"size": 8})
    assert plain.fields == ("image",)
    ctx = Context(jnp.zeros((), jnp.int32), jax.random.key(0))
    assert plain.apply(Colors(), BATCH, ctx).embedding.shape == (6, 3)
    with pytest.raises(ValueError, match="temperature=0 must be above 0"):
        Task(temperature=0, normalize=True, augmentation={"size": 8})
    with pytest.raises(ValueError, match="batch_size must be 2 or more"):
        plain.loss(Colors(), {"image": BATCH["image"][:1]}, ctx)


def brute_force(z, mask, temperature):
    """SupCon, anchor by anchor, of z `[B, V, D]` of length 1 and positives `[B, B]`."""
    B, V, _ = z.shape
    views = [(i, v) for i in range(B) for v in range(V)]
    values = []
    for i, v in views:
        others = [(j, w) for j, w in views if (j, w) != (i, v)]
        scores = {(j, w): np.exp(z[i, v] @ z[j, w] / temperature) for j, w in others}
        positives = [pair for pair in others if mask[i, pair[0]]]
        if positives:
            total = sum(scores.values())
            values.append(-np.mean([np.log(scores[pair] / total) for pair in positives]))
    return np.mean(values)


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_sup_con_is_its_definition(num_views):
    z = RNG.normal(size=(5, num_views, 4))
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    labels = np.array([0, 1, 0, 2, 1])  # with one view, image 3 has no positive
    mask = labels[:, None] == labels
    expected = brute_force(z, mask, 0.3)
    np.testing.assert_allclose(losses.sup_con(z, labels, temperature=0.3), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.sup_con(z, mask=mask, temperature=0.3), expected, rtol=1e-5)


def test_sup_con_refuses_what_has_no_positive_pair():
    z = jnp.ones((3, 1, 2))
    with pytest.raises(ValueError, match="one view per image has no positive pair: give labels"):
        losses.sup_con(z)
    with pytest.raises(ValueError, match="labels or mask, not both"):
        losses.sup_con(z, jnp.zeros(3), mask=jnp.eye(3))
    with pytest.raises(ValueError, match="anchors='one' is unknown"):
        losses.sup_con(z, jnp.zeros(3), anchors="one")
    assert np.isnan(losses.sup_con(z, jnp.arange(3)))
