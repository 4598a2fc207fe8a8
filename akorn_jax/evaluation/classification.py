"""How well classes are told: by the classifier, and by neighbours among the embeddings."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from scipy import optimize, spatial
from scipy.cluster import hierarchy

from akorn_jax.data import records
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.classification import check_labels

Array = jax.Array

NEIGHBORS = 5  # that vote
CHUNK = 1024  # images that are compared with all others at once
HEADINGS = {"top1_error": "top-1 error", "knn_accuracy": f"{NEIGHBORS}-NN accuracy"}


class Evaluator(base.Evaluator):
    """Top-1 error of the logits, and accuracy of nearest neighbours among the embeddings.

    The neighbours are images of the part "train". Of the embeddings a dendrogram of the classes is
    drawn (`figures/classes.png`), and all are written to `features.npz`: arrays `features_PART`,
    `logits_PART` and `labels_PART`. The logits count where the task trains them.

    Baselines are the same neighbours among raw pixels, and logistic regression on them.
    """

    reference = "train"

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "features" `[B, D]` of length 1 and "logits" `[B, ..., n]`, as far as there are."""
        del batch
        found = {}
        if output.embedding is not None:
            z = output.embedding.astype(jnp.float32)
            found["features"] = z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
        if output.logits is not None:
            found["logits"] = output.logits.astype(jnp.float32)
        if not found:
            raise UserError(
                "The model gives neither logits nor an embedding; choose other "
                "config.eval.evaluators."
            )
        return found

    def fit(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> None:
        """Keeps the neighbours."""
        self._train = {name: collect(k) for name, k in kept.items()}
        self._train_labels = self._labels(examples, self._train["trained"])
        self._train_images = examples.images

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores of the trained and of the untrained model, and of raw pixels."""
        outputs = {name: collect(k) for name, k in kept.items()}
        labels = self._labels(examples, outputs["trained"])
        scores = {name: self._compare(name, output, labels) for name, output in outputs.items()}
        if self.config.eval.baselines and examples.images is not None and labels.ndim == 1:
            scores["pixels"] = self._of_pixels(examples.images, labels)
        methods = {name: summarize(s) for name, s in scores.items()}
        trained = outputs["trained"]
        summary = {**methods["trained"], "neighbors": NEIGHBORS}
        pictures, notes = {}, []
        if "features" in trained:
            tree = class_linkage(trained["features"], labels)
            pictures["classes"] = dendrogram(tree, np.unique(labels), self._words())
            summary["class_linkage"] = tree.tolist()
        if "pixels" in scores:
            notes.append("pixels: logistic regression, and nearest neighbors, on raw pixels.")
        return Result(
            summary={**summary, "baselines": {n: m for n, m in methods.items() if n != "trained"}},
            columns={name: text for name, text in HEADINGS.items() if name in scores["trained"]},
            methods=methods,
            notes=tuple(notes),
            per_image=scores["trained"],
            files={"features.npz": self._exported(trained, labels)},
            pictures=pictures,
        )

    def _labels(self, examples: Examples, output: Mapping[str, np.ndarray]) -> np.ndarray:
        name = self._field()
        if name not in examples.attributes:
            raise UserError(
                f"{self.config.data.name}: has no field {name!r}; choose config.task.labels, or "
                "other config.eval.evaluators."
            )
        labels = examples.attributes[name].astype(np.int64)
        if "logits" in output and self._classifies():
            check_labels(labels, output["logits"], name)
        return labels

    def _field(self) -> str:
        """The field of the classes; also of a task that learns without them."""
        return getattr(self.task, "labels", "") or "label"

    def _classifies(self) -> bool:
        """Whether the task trains the logits."""
        return "classification" in self.task.evaluators

    def _compare(self, name: str, output: dict[str, np.ndarray], labels: np.ndarray) -> Scores:
        found = {}
        if "logits" in output and self._classifies():
            wrong = np.argmax(output["logits"], axis=-1) != labels
            found["top1_error"] = wrong.reshape(len(labels), -1).mean(axis=1)
        if "features" in output and labels.ndim == 1:
            train = self._train[name]["features"]
            found["knn_accuracy"] = nearest(train, self._train_labels, output["features"]) == labels
        return {name: values.astype(np.float64) for name, values in found.items()}

    def _of_pixels(self, images: np.ndarray, labels: np.ndarray) -> Scores:
        train, test = (
            i.reshape(len(i), -1) / np.float32(255) for i in (self._train_images, images)
        )
        voted = nearest(train, self._train_labels, test)
        classified = logistic_regression(train, self._train_labels, test)
        return {
            "top1_error": (classified != labels).astype(np.float64),
            "knn_accuracy": (voted == labels).astype(np.float64),
        }

    def _words(self) -> list[str]:
        """The names of classes 0, 1, ..., as far as the dataset tells."""
        builder = records.open_builder(self.config.data.name, self.config.data_dir)
        return list((builder.info.metadata or {}).get("vocabularies", {}).get(self._field(), ()))

    def _exported(self, output: dict[str, np.ndarray], labels: np.ndarray) -> bytes:
        parts = {"train": (self._train["trained"], self._train_labels)}
        parts[self.config.eval.split] = (output, labels)
        arrays = {}
        for part, (arrays_of_part, labels_of_part) in parts.items():
            arrays |= {f"{name}_{part}": array for name, array in arrays_of_part.items()}
            arrays[f"labels_{part}"] = labels_of_part
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()


def nearest(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The class `[M]` that most of the nearest neighbours have; of as many votes, the nearest's.

    Args:
        train: `[N, D]`.
        labels: `[N]`, classes from 0.
        test: `[M, D]`.
    """
    k = min(NEIGHBORS, len(train))
    squared = np.sum(train**2, axis=1)
    classes = []
    for start in range(0, len(test), CHUNK):
        distances = squared - 2 * test[start : start + CHUNK] @ train.T  # but for a constant
        some = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1, kind="stable")
        votes = labels[np.take_along_axis(some, order, axis=1)]  # [m, k], the nearest first
        counts = np.sum(votes[:, :, None] == votes[:, None], axis=2)
        classes.append(votes[np.arange(len(votes)), np.argmax(counts, axis=1)])
    return np.concatenate(classes)


def logistic_regression(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The classes `[M]` that a softmax of linear maps finds, fitted with an L2 penalty of 1.

    Minimises 1/2 |W|^2 + sum of cross-entropies over W and an unpenalised bias by L-BFGS, as
    scikit-learn does by default.

    Args:
        train: `[N, D]`.
        labels: `[N]`, classes from 0.
        test: `[M, D]`.
    """
    n, (N, D) = int(labels.max()) + 1, train.shape
    x = np.column_stack([train, np.ones(N, train.dtype)])
    target = np.eye(n, dtype=train.dtype)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(D + 1, n)
        logits = x @ weights
        logits -= logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        penalised = weights * (np.arange(D + 1) < D)[:, None]
        value = np.sum(total[:, 0] - np.sum(logits * target, axis=1)) + 0.5 * np.sum(penalised**2)
        gradient = x.T @ (np.exp(logits - total) - target) + penalised
        return float(value), gradient.ravel().astype(np.float64)

    found = optimize.minimize(
        loss, np.zeros((D + 1) * n), jac=True, method="L-BFGS-B", options={"maxiter": 200}
    )
    weights = found.x.reshape(D + 1, n)
    return np.argmax(test @ weights[:D] + weights[D], axis=1)


def class_linkage(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average linkage of the classes' mean features by cosine distance, as SciPy has it.

    Args:
        features: `[N, D]`.
        labels: `[N]`; of the C that occur, in ascending order, the tree is.

    Returns:
        `[C - 1, 4]`: what is joined, at what distance, and how many classes it has.
    """
    means = np.stack([features[labels == c].mean(axis=0) for c in np.unique(labels)])
    if len(means) < 2:
        return np.zeros((0, 4))
    return hierarchy.linkage(spatial.distance.pdist(means, "cosine"), "average")


def dendrogram(tree: np.ndarray, classes: np.ndarray, names: list[str]) -> bytes:
    """A picture of `class_linkage`, as a PNG.

    Args:
        tree: `[C - 1, 4]`.
        classes: `[C]`.
        names: of classes 0, 1, ...; classes beyond them are shown as numbers.
    """
    figure = matplotlib.figure.Figure(figsize=(5, 1.2 + 0.22 * len(classes)), layout="constrained")
    axes = figure.subplots()
    if len(tree):
        texts = [names[c] if c < len(names) else str(c) for c in classes]
        hierarchy.dendrogram(
            tree, labels=texts, orientation="left", color_threshold=0, ax=axes,
            above_threshold_color="#444444",
        )  # fmt: skip
    axes.set_xlabel("cosine distance of class means")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
