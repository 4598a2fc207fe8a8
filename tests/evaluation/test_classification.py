"""Neighbours, logistic regression and linkage against scikit-learn and SciPy; what is written."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from sklearn import datasets, linear_model, neighbors

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import classification
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.classification import Task as ClassificationTask
from akorn_jax.tasks.contrastive import Task as ContrastiveTask

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    found = datasets.load_digits()
    x, y = found.data.astype(np.float32) / 16, found.target
    return x[:500], y[:500], x[500:900], y[500:900]


def test_neighbors_are_scikit_learns(digits, monkeypatch):
    x, y, z, _ = digits
    monkeypatch.setattr(classification, "CHUNK", 150)
    ours = classification.nearest(x, y, z)
    theirs = neighbors.KNeighborsClassifier(classification.NEIGHBORS).fit(x, y)
    # Of as many votes scikit-learn takes the smaller class, we the nearest neighbour's.
    votes = np.sort(theirs.predict_proba(z), axis=1)
    clear = votes[:, -1] > votes[:, -2]
    np.testing.assert_array_equal(ours[clear], theirs.predict(z)[clear])
    assert clear.mean() > 0.9
    nearest = neighbors.KNeighborsClassifier(1).fit(x, y).predict(z)
    two = np.stack([x[0], x[0] + 2, x[0] + 3, x[0] - 4, x[0] + 5])
    assert classification.nearest(two, np.array([3, 1, 1, 3, 0]), x[:1] + 0.9)[0] == 3
    assert len(nearest) == len(ours)
    np.testing.assert_array_equal(classification.nearest(x[:2], y[:2], x[:2]), y[:2])


def test_logistic_regression_is_scikit_learns(digits):
    x, y, z, labels = digits
    ours = classification.logistic_regression(x, y, z)
    theirs = linear_model.LogisticRegression(max_iter=500).fit(x, y).predict(z)
    assert (ours == theirs).mean() > 0.99
    assert (ours == labels).mean() > 0.85


def test_linkage_joins_the_classes_that_are_alike():
    angles = np.deg2rad([0, 10, 90, 180])
    means = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.array([2, 3, 5, 7]).repeat(20)
    features = means.repeat(20, axis=0) + np.tile([[0.01, 0], [-0.01, 0]], (40, 1))
    tree = classification.class_linkage(features, labels)
    assert tree.shape == (3, 4)
    assert sorted(tree[0, :2]) == [0, 1]
    np.testing.assert_allclose(tree[0, 2], 1 - np.cos(np.deg2rad(10)), atol=1e-6)
    assert classification.class_linkage(features[:20], labels[:20]).shape == (0, 4)
    picture = classification.dendrogram(tree, np.unique(labels), ["a"] * 4)
    assert Image.open(io.BytesIO(picture)).size[0] > 100


def make(task, count=60, num_classes=3, **attributes):
    """(evaluator, examples of train, examples of test) of colours that tell the class."""
    config = ConfigDict({"data": {"name": "x/y"}, "data_dir": ""})
    config.eval = ConfigDict({"baselines": True, "split": "test"})
    evaluator = classification.Evaluator(config, task)
    evaluator._words = lambda: ["red", "green", "blue"]

    def examples(seed):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, num_classes, count)
        images = np.zeros((count, 4, 4, 3), np.uint8)
        images[np.arange(count), :, :, labels] = 255
        arrays = {"label": labels.astype(np.uint8), **attributes}
        return Examples(images, None, arrays, np.arange(count), np.zeros(count, int))

    return evaluator, examples(0), examples(1)


def run(evaluator, examples, output, size=16):
    for start in range(0, len(examples), size):
        images = examples.images[start : start + size]
        batch = {"image": images}
        yield {n: np.asarray(v) for n, v in evaluator.reduce(output(images), batch).items()}


def colors(images):
    mean = jnp.asarray(images, jnp.float32).mean(axis=(1, 2)) + 1
    return ModelOutput(embedding=5 * mean, logits=-mean)  # the class with the least is the largest


def constant(images):
    return ModelOutput(embedding=jnp.zeros((len(images), 4)), logits=jnp.zeros((len(images), 3)))


def test_scores():
    evaluator, train, test = make(ClassificationTask())
    assert evaluator.reference == "train"
    evaluator.fit({"trained": run(evaluator, train, colors)}, train)
    result = evaluator.score({"trained": run(evaluator, test, colors)}, test)
    summary = result.summary
    assert summary["knn_accuracy"] == 1
    assert summary["top1_error"] == 1  # the classifier names the wrong ones
    assert summary["baselines"]["pixels"]["knn_accuracy"] == 1
    assert summary["baselines"]["pixels"]["top1_error"] == 0
    assert set(result.columns) == {"top1_error", "knn_accuracy"}
    assert result.per_image["top1_error"].shape == (60,)
    with np.load(io.BytesIO(result.files["features.npz"])) as arrays:
        assert set(arrays) == {
            f"{name}_{part}"
            for name in ("features", "logits", "labels")
            for part in ("train", "test")
        }
        np.testing.assert_array_equal(arrays["labels_test"], test.attributes["label"])
        np.testing.assert_allclose(np.linalg.norm(arrays["features_train"], axis=1), 1, rtol=1e-5)
    assert len(summary["class_linkage"]) == 2
    assert set(result.pictures) == {"classes"}


def test_an_untrained_classifier_is_not_scored():
    task = ContrastiveTask(temperature=0.1, normalize=True, augmentation={"size": 4})
    evaluator, train, test = make(task)
    methods = {"trained": colors, "untrained": constant}
    evaluator.fit({n: run(evaluator, train, output) for n, output in methods.items()}, train)
    result = evaluator.score({n: run(evaluator, test, o) for n, o in methods.items()}, test)
    assert set(result.columns) == {"knn_accuracy"}
    assert result.summary["knn_accuracy"] == 1
    assert result.summary["baselines"]["untrained"]["knn_accuracy"] < 0.6


def test_data_without_classes_are_refused():
    evaluator, train, _ = make(ClassificationTask(labels="kind"))
    with pytest.raises(UserError, match="has no field 'kind'; choose"):
        evaluator.fit({"trained": run(evaluator, train, colors)}, train)
    with pytest.raises(UserError, match="neither logits nor an embedding"):
        evaluator.reduce(ModelOutput(), {})


def test_classes_that_the_model_does_not_have_are_refused():
    evaluator, train, _ = make(ClassificationTask(), num_classes=3)
    train.attributes["label"][0] = 3
    with pytest.raises(UserError, match="label=3: the model has classes 0 to 2"):
        evaluator.fit({"trained": run(evaluator, train, colors)}, train)
