"""What the representation of an object tells of its properties, by probes on frozen models.

Representations are the slots, with their boxes and presence where there are any, or of models
without slots the means of the features over each cluster. True objects are matched with segments by
the overlap of their masks. Probes of each attribute, linear ones and multilayer perceptrons, learn
on the first half of the scenes and are scored on the second: R^2 of numbers, accuracy of classes.
Beside them stand disentanglement, completeness and informativeness (`dci`), and as floors an
untrained model, and color, place and area of the segments and of the true masks.

The protocol is that of object-centric-library (Dittadi et al. 2022, arXiv 2107.00637); where ours
differs, docs/results/probes.md says so.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPRegressor

from akorn_jax.data import records
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, dci, object_codes, segmentation
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result
from akorn_jax.outputs import ModelOutput

Array = jax.Array
Scores = dict[str, float | None]

ALPHAS = np.logspace(-3, 5, 17)  # penalties that ridge regression chooses from
HIDDEN = 256  # units of the perceptron, as in object-centric-library's "MLP1"
SHARE_HELD_OUT = 0.1  # of what a perceptron learns from, to stop it
HELD_OUT = 5  # objects at least: without them it stops by its own loss
DCI = ("disentanglement", "completeness", "informativeness")
MEANS = ("linear_r2", "linear_accuracy", "mlp_r2", "mlp_accuracy", *DCI)


class Evaluator(base.Evaluator):
    """Probes of each attribute of `Examples.attributes`, and DCI.

    `metrics.json` has the means over the attributes of a kind as `linear_r2`, `linear_accuracy`,
    `mlp_r2`, `mlp_accuracy`, `disentanglement`, `completeness` and `informativeness`, and under
    `probes` each attribute's scores of every method.
    """

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "labels" and "vectors" `[B, K, D]` of masks and slots, or else "features".

        The vector of a mask without a slot, the background's where only objects have one, is NaN.
        """
        found = segmentation.segments(output, batch)
        if "labels" not in found:
            return {"features": found["features"]}
        if output.slots is None:
            raise UserError(
                "config.eval.evaluators=probes: the model gives masks without slots; choose others."
            )
        vectors = [output.slots]
        for part in (output.boxes, output.presence):
            if part is not None and part.shape[1] == output.slots.shape[1]:
                vectors.append(part.reshape(*part.shape[:2], -1))
        vectors = jnp.concatenate([v.astype(jnp.float32) for v in vectors], axis=-1)
        missing = output.masks.shape[1] - vectors.shape[1]
        if missing < 0:
            raise UserError(
                "config.eval.evaluators=probes: the model has more slots than masks; choose others."
            )
        vectors = jnp.pad(vectors, ((0, 0), (missing, 0), (0, 0)), constant_values=jnp.nan)
        return {"labels": found["labels"], "vectors": vectors}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Probes the trained model, the others and the floors; nothing without true masks."""
        if examples.segmentation is None:
            note = "The data have no masks, so objects are not probed."
            return Result(summary={}, columns={}, methods={"trained": {}}, notes=(note,))
        objects = object_codes.visible_objects(examples, self._vocabularies())
        codes, segments = {}, {}
        for name, outputs in kept.items():
            segments[name], vectors = _segments(outputs, examples, self.config)
            codes[name] = object_codes.codes(segments[name], vectors, objects, examples)
        if self.config.eval.baselines and examples.images is not None:
            for name, labels in (
                ("pixels of its segments", segments["trained"]),
                ("pixels of true masks", examples.segmentation),
            ):
                statistics = object_codes.pixel_statistics(examples.images, labels)
                codes[name] = object_codes.codes(labels, statistics, objects, examples)
        train = objects.scene < len(examples) / 2
        found = {
            name: probe(code, objects.attributes, train, seed=self.config.eval.seed)
            for name, code in codes.items()
        }
        if self.config.eval.baselines:
            found["constant"] = {"linear": constant_scores(objects.attributes, train)}
        means = {name: _means(scores, objects.attributes) for name, scores in found.items()}
        title = (
            f"Linear probes, learned on {int(train.sum())} objects and scored on "
            f"{int(np.sum(~train))} of other scenes: R² of numbers, accuracy of classes."
        )
        return Result(
            summary={
                **means["trained"],
                "probes": {
                    "kinds": {n: object_codes.kind(v) for n, v in objects.attributes.items()},
                    "matched": {n: float(np.mean(~np.isnan(c[:, 0]))) for n, c in codes.items()},
                    "methods": found,
                    "means": means,
                },
            },
            columns={},
            methods={"trained": {}},
            notes=(title, *_lines(found)),
            logged=MEANS,
        )

    def _vocabularies(self) -> Mapping[str, Sequence[str]]:
        builder = records.open_builder(self.config.data.name, self.config.data_dir)
        return (builder.info.metadata or {}).get("vocabularies", {})


def _segments(
    kept: Iterator[dict[str, Any]], examples: Examples, config: ConfigDict
) -> tuple[np.ndarray, np.ndarray]:
    """Label maps `[N, H, W]` and the vectors of their segments `[N, K, D]`."""
    rest = []

    def watched() -> Iterator[dict[str, Any]]:
        for output in kept:
            rest.append({n: array for n, array in output.items() if n != "labels"})
            yield output

    labels = segmentation.label_maps(watched(), examples, config).labels
    found = collect(iter(rest))
    if "vectors" in found:
        return labels, found["vectors"]
    height, width = found["features"].shape[1:3]
    rows, columns = (
        ((np.arange(n) + 0.5) * size / n).astype(int)
        for n, size in zip((height, width), labels.shape[1:], strict=True)
    )
    return labels, object_codes.segment_means(found["features"], labels[:, rows[:, None], columns])


def probe(
    code: np.ndarray, attributes: Mapping[str, np.ndarray], train: np.ndarray, *, seed: int = 0
) -> dict[str, Scores]:
    """Scores by attribute of "linear" and "mlp" probes, and "dci".

    Dimensions are standardised. Objects without a code (NaN) are not learned from; where they are
    to be scored they have the mean code, so that a model pays for those that it misses.

    Args:
        code: `[M, D]`.
        attributes: see `Objects`.
        train: `[M]`, which objects are learned from.
        seed: of perceptrons and forests.
    """
    known = ~np.isnan(code).any(axis=1)
    learned = train & known
    if learned.sum() < 2:
        return {"linear": dict.fromkeys(attributes), "mlp": dict.fromkeys(attributes), "dci": {}}
    mean, std = code[learned].mean(axis=0), code[learned].std(axis=0)
    code = np.where(known[:, None], (code - mean) / np.where(std > 0, std, 1), 0.0)  # [M, D]
    x, test = code[learned], code[~train]
    targets = {name: values[learned] for name, values in attributes.items()}
    pred = {"linear": linear(x, targets, test), "mlp": perceptron(x, targets, test, seed=seed)}
    found = {
        kind: {name: _score(values[~train], of[name]) for name, values in attributes.items()}
        for kind, of in pred.items()
    }
    return {**found, "dci": _dci(x, targets, test, attributes, train, seed)}


def _score(true: np.ndarray, pred: np.ndarray) -> float:
    """Accuracy of classes `[M]`; R^2 of numbers `[M, n]`, the mean over the components."""
    score = accuracy_score if object_codes.kind(true) == "accuracy" else r2_score
    return float(score(true, pred))


def linear(
    x: np.ndarray, targets: Mapping[str, np.ndarray], test: np.ndarray
) -> dict[str, np.ndarray]:
    """What linear maps predict for `test`: ridge regression, logistic regression of classes.

    Args:
        x: `[N, D]`, standardised.
        targets: `[N]` classes or `[N, n]` numbers, by attribute.
        test: `[M, D]`.
    """
    found = {}
    for name, y in targets.items():
        if object_codes.kind(y) == "r2":  # each component chooses its penalty by leaving one out
            model = RidgeCV(alphas=ALPHAS, alpha_per_target=y.shape[1] > 1)
        elif len(np.unique(y)) > 1:
            model = LogisticRegression(max_iter=2000)
        else:
            model = DummyClassifier()
        found[name] = model.fit(x, y).predict(test).reshape(len(test), *y.shape[1:])
    return found


def perceptron(
    x: np.ndarray, targets: Mapping[str, np.ndarray], test: np.ndarray, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """As `linear`, by one perceptron of a hidden layer for all attributes.

    It minimises the squared error, of standardised numbers and of classes as one-hot vectors, by
    Adam at 1e-3 on batches of 64 until that of a tenth that is held out falls no more.
    """
    columns, classes, scales = [], {}, {}
    for name, y in targets.items():
        if object_codes.kind(y) == "accuracy":
            classes[name], index = np.unique(y, return_inverse=True)
            columns.append(np.eye(len(classes[name]))[index])
        else:
            std = y.std(axis=0)
            scales[name] = y.mean(axis=0), np.where(std > 0, std, 1)
            columns.append((y - scales[name][0]) / scales[name][1])
    y = np.concatenate(columns, axis=1)
    model = MLPRegressor(
        hidden_layer_sizes=(HIDDEN,),
        batch_size=min(64, len(x)),
        early_stopping=len(x) * SHARE_HELD_OUT >= HELD_OUT,
        validation_fraction=SHARE_HELD_OUT,
        n_iter_no_change=20,
        max_iter=500,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the held-out tenth decides
        model.fit(x, y if y.shape[1] > 1 else y[:, 0])
    ends = np.cumsum([column.shape[1] for column in columns])[:-1]
    parts = np.split(model.predict(test).reshape(len(test), -1), ends, axis=1)
    found = {}
    for name, part in zip(targets, parts, strict=True):
        if name in classes:
            found[name] = classes[name][np.argmax(part, axis=1)]
        else:
            mean, std = scales[name]
            found[name] = part * std + mean
    return found


def _dci(
    x: np.ndarray,
    targets: Mapping[str, np.ndarray],
    test: np.ndarray,
    attributes: Mapping[str, np.ndarray],
    train: np.ndarray,
    seed: int,
) -> Scores:
    """See `dci`; every component of a number is a factor, informativeness their forests' score."""
    factors, truth = [], []
    for name, y in targets.items():
        values = attributes[name][~train]
        factors += [y] if y.ndim == 1 else list(y.T)
        truth += [values] if values.ndim == 1 else list(values.T)
    R, forests = dci.importance(x, factors, seed=seed)
    told = [forest.score(test, of) for forest, of in zip(forests, truth, strict=True)]
    found = (dci.disentanglement(R), dci.completeness(R), float(np.mean(told)))
    return dict(zip(DCI, found, strict=True))


def constant_scores(attributes: Mapping[str, np.ndarray], train: np.ndarray) -> Scores:
    """What the mean, or the most frequent class, of those to learn from scores by attribute."""
    found = {}
    for name, values in attributes.items():
        learned, true = values[train], values[~train]
        if object_codes.kind(values) == "accuracy":
            classes, counts = np.unique(learned, return_counts=True)
            pred = np.full_like(true, classes[np.argmax(counts)])
        else:
            pred = np.broadcast_to(learned.mean(axis=0), true.shape)
        found[name] = _score(true, pred)
    return found


def _means(found: Mapping[str, Scores], attributes: Mapping[str, np.ndarray]) -> Scores:
    """Means over the attributes of a kind, and DCI, by the names of `MEANS`."""
    means = {}
    for probe_kind in ("linear", "mlp"):
        for kind in ("r2", "accuracy"):
            names = [
                name for name, values in attributes.items() if object_codes.kind(values) == kind
            ]
            scores = [found.get(probe_kind, {}).get(name) for name in names]
            if scores and None not in scores:
                means[f"{probe_kind}_{kind}"] = float(np.mean(scores))
    return means | dict(found.get("dci", {}))


def _lines(found: Mapping[str, Mapping[str, Scores]]) -> list[str]:
    """A table of the linear probes, and of DCI, for people."""
    names = list(found["trained"]["linear"])
    rows = [["", *names, "D", "C", "I"]]
    for method, scores in found.items():
        values = [scores["linear"][name] for name in names]
        values += [scores.get("dci", {}).get(name) for name in DCI]
        cells = ["-" if value is None else f"{value:z.2f}" for value in values]
        rows.append(["this model" if method == "trained" else method, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
