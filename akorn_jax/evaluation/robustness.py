"""How well classes are told under attack, reported so that masked gradients show.

A model with random starts is hard to follow by the gradient of one start, which says nothing of
whether it is robust (arXiv 1802.00420). So attacks that need no such gradient stand beside it: one
that averages gradients over starts, images that fool another model, a search by decisions alone.
"""

import functools
import io
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from flax import nnx
from scipy import optimize, special

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import attacks, base, options
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Context, Task
from akorn_jax.tasks.classification import check_labels

Array = jax.Array

BINS = 15  # of confidence, in the calibration error
STEP = 1 / 3  # of epsilon, of one step of ascent
SIGNIFICANT = 2.0  # standard errors of a difference
HEADINGS = {
    "accuracy": "clean",
    "accuracy_noise": "noise",
    "accuracy_fgsm": "FGSM",
    "accuracy_pgd": "PGD",
    "accuracy_eot": "EoT",
    "accuracy_transfer": "transfer",
    "accuracy_decision": "decision",
    "accuracy_worst": "worst",
}
SHOWN = ("accuracy_pgd", "accuracy_worst")  # as columns of the table; the rest in a line
# What one start's gradient should not lose against.
WITHOUT_MASKS = ("accuracy_eot", "accuracy_transfer", "accuracy_decision")


class Evaluator(base.Evaluator):
    """Accuracy of the first images under attacks, and calibration over all.

    The attacks, within `epsilon` of each image: FGSM; projected gradient ascent from several random
    places by the gradient of one random start (PGD), and by the mean gradient of several (EoT);
    where `transfer_from` names a run, what ascent finds on that; and a search by decisions. Noise
    moves each number by `noise`, up or down. An image's accuracy is the share of fresh starts that
    name its class, the least over restarts; "worst" is the least over attacks.

    The expected calibration error (arXiv 1706.04599) compares confidence and accuracy in 15 bins,
    as it is and after one temperature, fitted to the other half of the images. Where images are
    corrupted at several severities, the accuracy at each is given too.
    """

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        self._called: base.Called | None = None
        self._other: base.Called | None = None

    def look(self, called: base.Called, other: base.Called | None) -> None:
        """Keeps the models to attack."""
        self._called, self._other = called, other

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "logits" `[B, n]`."""
        del batch
        if output.logits is None or output.logits.ndim != 2:
            raise UserError(
                "The model gives no logits of whole images; choose other config.eval.evaluators."
            )
        return {"logits": output.logits.astype(jnp.float32)}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores of the trained model; of others only what is printed of calibration."""
        name = getattr(self.task, "labels", "") or "label"
        if name not in examples.attributes:
            raise UserError(
                f"{self.config.data.name}: has no field {name!r}; choose config.task.labels, or "
                "other config.eval.evaluators."
            )
        labels = examples.attributes[name].astype(np.int32)
        logits = {method: collect(k)["logits"] for method, k in kept.items()}
        check_labels(labels, logits["trained"], name)
        calibration = {method: calibrate(found, labels) for method, found in logits.items()}
        count = min(self.config.eval.robustness.num_images, len(labels))
        scores = self._attacked(examples.images[:count], labels[:count])
        methods = {
            method: {**calibration[method], **(summarize(scores) if method == "trained" else {})}
            for method in logits
        }
        means = ", ".join(
            f"{text} {np.mean(scores[name]):.3f}"
            for name, text in HEADINGS.items()
            if name in scores
        )
        return Result(
            summary={
                **methods["trained"],
                "num_attacked": count,
                "robustness": dict(self.config.eval.robustness),
                "masked_gradients": bool(masked(scores)),
                **_by_severity(logits["trained"], labels, examples),
            },
            columns={**{name: HEADINGS[name] for name in SHOWN}, "ece": "ECE"},
            methods=methods,
            notes=(
                f"{count} images, moved by {self.config.eval.robustness.epsilon:.3f}: {means}.",
                verdict(scores),
            ),
            logged=(*(name for name in scores if name not in SHOWN), "ece_scaled"),
            pictures={"calibration": reliability(logits["trained"], labels)},
        )

    def _attacked(self, images: np.ndarray, labels: np.ndarray) -> Scores:
        """`[N]` shares of starts that name the class, by attack."""
        settings, size = self.config.eval.robustness, self.config.eval.batch_size
        found: dict[str, list[np.ndarray]] = {}
        key = jax.random.key(self.config.eval.seed)
        for start in range(0, len(images), size):
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            batch = jnp.asarray(images[rows], jnp.float32) / 255, jnp.asarray(labels[rows])
            scores = self._batch(*batch, jax.random.fold_in(key, start), settings)
            for name, values in scores.items():
                found.setdefault(name, []).append(values[: len(images) - start])
        return {name: np.concatenate(values).astype(np.float64) for name, values in found.items()}

    def _batch(self, x: Array, labels: Array, key: Array, settings: Any) -> Scores:
        """The same of one batch, images `[B, H, W, 3]` in [0, 1]."""
        E, R, epsilon = settings.num_starts, settings.num_restarts, settings.epsilon
        ours = self._arguments(self._called)
        keys = iter(jax.random.split(key, 2 * (len(HEADINGS) + 2 * R)))

        def accuracy(images: Array) -> np.ndarray:
            return np.asarray(_accuracy(*ours, images, labels, next(keys), E))

        def ascent(model: tuple = ours, **changed: Any) -> Array:
            chosen = {
                "epsilon": epsilon,
                "step_size": STEP * epsilon,
                "num_steps": settings.num_steps,
                "num_starts": E,
                "spread": 0.0,
            }
            return _ascent(*model, x, labels, next(keys), {**chosen, **changed})

        def restarted(num_starts: int) -> np.ndarray:
            found = [accuracy(ascent(spread=1.0, num_starts=num_starts)) for _ in range(R)]
            return np.min(found, axis=0)

        scores = {
            "accuracy": accuracy(x),
            "accuracy_noise": accuracy(attacks.random_signs(x, next(keys), settings.noise)),
            "accuracy_fgsm": accuracy(ascent(step_size=epsilon, num_steps=1, num_starts=1)),
            "accuracy_pgd": restarted(num_starts=1),
            "accuracy_eot": restarted(num_starts=E),
        }
        if self._other is not None:
            scores["accuracy_transfer"] = accuracy(ascent(self._arguments(self._other)))
        decided = _decided(*ours, settings.num_queries, E, x, labels, next(keys), epsilon)
        scores["accuracy_decision"] = accuracy(decided)
        within = [values for name, values in scores.items() if name != "accuracy_noise"]
        return {**scores, "accuracy_worst": np.min(within, axis=0)}

    def _arguments(self, called: base.Called) -> tuple:
        """A model as the compiled functions below take it."""
        chosen = (
            options.call_options(called.model, self.config.eval) if called is self._called else {}
        )
        graphdef, state = nnx.split(called.model)
        return graphdef, called.task, tuple(sorted(chosen.items())), state, called.ctx


def _logits(
    graphdef: nnx.GraphDef, task: Task, static: tuple, state: nnx.State, ctx: tuple
) -> attacks.Logits:
    def logits(images: Array, key: Array) -> Array:
        model = nnx.merge(graphdef, state, copy=True)
        step, task_state = ctx
        batch = {task.inputs: images}
        return task.apply(model, batch, Context(step, key, task_state), **dict(static)).logits

    return logits


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _accuracy(
    graphdef: nnx.GraphDef,
    task: Task,
    static: tuple,
    state: nnx.State,
    ctx: tuple,
    images: Array,
    labels: Array,
    key: Array,
    num_starts: Array,
) -> Array:
    """The share of starts, `[B]`, that name the class."""
    logits = _logits(graphdef, task, static, state, ctx)

    def add(i: Array, total: Array) -> Array:
        named = jnp.argmax(logits(images, jax.random.fold_in(key, i)), axis=-1)
        return total + (named == labels) / num_starts

    return jax.lax.fori_loop(0, num_starts, add, jnp.zeros(len(labels)))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _ascent(
    graphdef: nnx.GraphDef,
    task: Task,
    static: tuple,
    state: nnx.State,
    ctx: tuple,
    images: Array,
    labels: Array,
    key: Array,
    settings: dict[str, Array],
) -> Array:
    """`attacks.projected_gradient`; compiled once for all its settings."""
    logits = _logits(graphdef, task, static, state, ctx)
    return attacks.projected_gradient(logits, images, labels, key, **settings)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 5, 6))
def _decided(
    graphdef: nnx.GraphDef,
    task: Task,
    static: tuple,
    state: nnx.State,
    ctx: tuple,
    num_queries: int,
    num_starts: int,
    images: Array,
    labels: Array,
    key: Array,
    epsilon: Array,
) -> Array:
    """The images of `attacks.decisions`."""
    logits = _logits(graphdef, task, static, state, ctx)
    budget = {"num_queries": num_queries, "num_starts": num_starts}
    return attacks.decisions(logits, images, labels, key, epsilon=epsilon, **budget)[0]


def _by_severity(
    logits: np.ndarray, labels: np.ndarray, examples: Examples
) -> dict[str, dict[str, float]]:
    """The accuracy at each severity of corrupted images; nothing for others."""
    severity = examples.attributes.get("severity")
    if severity is None:
        return {}
    right = np.argmax(logits, axis=1) == labels
    return {
        "accuracy_by_severity": {
            str(level): float(np.mean(right[severity == level])) for level in np.unique(severity)
        }
    }


def masked(scores: Scores) -> dict[str, float]:
    """The attacks without one start's gradient that fool more than PGD with it, by how much.

    Only differences above `SIGNIFICANT` standard errors of the mean over images count.
    """
    found = {}
    for name in WITHOUT_MASKS:
        if name in scores:
            gain = scores["accuracy_pgd"] - scores[name]
            error = np.std(gain, ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.inf
            if np.mean(gain) > SIGNIFICANT * error:
                found[name] = float(np.mean(gain))
    return found


def verdict(scores: Scores) -> str:
    """One line that says whether gradients are masked."""
    gains = masked(scores)
    if not gains:
        return "No sign of masked gradients: no attack beats PGD by one start's gradient."
    found = ", ".join(f"{HEADINGS[name]} by {gain:.3f}" for name, gain in gains.items())
    return f"Masked gradients: beyond PGD by one start's gradient, accuracy falls to {found} less."


def calibrate(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The expected calibration error, also of logits over a temperature, and the temperature.

    Temperatures are fitted to the even images for the odd ones, and the other way round.

    Args:
        logits: `[N, n]`.
        labels: `[N]`.
    """
    scaled, temperatures = np.array(logits, np.float64), []
    for half in (0, 1):
        t = fit_temperature(logits[1 - half :: 2], labels[1 - half :: 2])
        scaled[half::2] /= t
        temperatures.append(t)
    return {
        "ece": calibration_error(logits, labels),
        "ece_scaled": calibration_error(scaled, labels),
        "temperature": float(np.mean(temperatures)),
    }


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number in [0.05, 20] that, dividing the logits, gives the least cross-entropy."""
    if not len(labels):
        return 1.0

    def loss(log_t: float) -> float:
        probabilities = special.log_softmax(logits / np.exp(log_t), axis=1)
        return -float(np.mean(probabilities[np.arange(len(labels)), labels]))

    return float(
        np.exp(optimize.minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x)
    )


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over images of |accuracy - confidence| of the bin that their confidence is in."""
    confidence, right, place = _binned(logits, labels)
    gaps = [abs(np.sum(right[place == b]) - np.sum(confidence[place == b])) for b in range(BINS)]
    return float(np.sum(gaps) / len(labels))


def _binned(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image: confidence in [0, 1], whether it is right, and the bin of the confidence."""
    probabilities = special.softmax(np.asarray(logits, np.float64), axis=1)
    confidence = probabilities.max(axis=1)
    right = np.argmax(logits, axis=1) == labels
    return confidence, right, np.minimum((BINS * confidence).astype(int), BINS - 1)


def reliability(logits: np.ndarray, labels: np.ndarray) -> bytes:
    """A picture of accuracy by confidence, as a PNG."""
    confidence, right, place = _binned(logits, labels)
    used = np.unique(place)
    figure = matplotlib.figure.Figure(figsize=(3.2, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    x, y = ([np.mean(values[place == b]) for b in used] for values in (confidence, right))
    axes.plot(x, y, marker="o", color="#204a87")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
