"""How many boards are completed, by test-time steps and by random starts that vote."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from ml_collections import ConfigDict

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.outputs import ModelOutput, readout_steps
from akorn_jax.tasks.base import Task

Array = jax.Array

SINGLES = "singles, no search"
ONE = "one start"
HEADINGS = {"cell_accuracy": "blank cells", "board_accuracy": "boards"}
# Told apart by lightness and markers too.
STYLES = {
    ONE: ("#222222", "o"),
    "least energy, summed": ("#0077bb", "s"),
    "least energy, last": ("#33bbee", "D"),
    "majority": ("#cc6a11", "^"),
    "rules checked": ("#999933", "v"),
}


class Evaluator(base.Evaluator):
    """Accuracy of blank cells and of whole boards, in [0, 1], the mean over random starts.

    A board is right if all its blanks are. Where there are K > 1 starts (`config.eval.num_starts`),
    they also vote, for K times the compute of one: "least energy" takes the start whose energy in
    the last layer is least, summed over all steps (as published) or at the last; "majority" the
    most frequent digit of each cell; "rules checked" a start that keeps the rules, where there is
    one: as boards have one solution, it is right, and no other choice of a start can be better.

    Curves over steps (up to `config.eval.options.num_steps`) and over starts, of which fewer are
    means over disjoint groups, go to `figures/boards.png`, their numbers to `metrics.json`.

    Baselines are the untrained model and constraint propagation without search, the field
    "singles" of the data.
    """

    trajectory = True

    def __init__(self, config: ConfigDict, task: Task) -> None:
        super().__init__(config, task)
        self.starts = config.eval.num_starts
        if self.starts < 1:
            raise UserError(f"config.eval.num_starts={self.starts}: give 1 or more.")

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "digits" `[B, S, n, n]` after some steps, and energies by then, `[B, S]`."""
        del batch
        trajectory = output.trajectory or {}
        if "logits" not in trajectory:
            raise UserError("The model completes no boards; choose other config.eval.evaluators.")
        digits = jnp.argmax(trajectory["logits"][0], axis=-1) + 1  # [S, B, n, n]
        found = {"digits": digits.swapaxes(0, 1).astype(jnp.uint8)}
        if "energies" in trajectory:
            energies = trajectory["energies"][-1].T  # [B, T + 1]
            steps = jnp.array(readout_steps(energies.shape[1] - 1))
            found["least energy, summed"] = jnp.cumsum(energies, axis=1)[:, steps]
            found["least energy, last"] = energies[:, steps]
        return found

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores of the trained and of the untrained model, and of propagation."""
        puzzle, solution = (_field(examples, name) for name in ("puzzle", "solution"))
        outputs = {name: collect(batches) for name, batches in kept.items()}  # [N, K, S, ...]
        num_steps = self.config.eval.options.get("num_steps", self.config.model.num_steps)
        curves = _curves(outputs["trained"], puzzle, solution, num_steps)
        scores: dict[str, Scores] = {}
        for name, output in outputs.items():
            of_starts = right(output["digits"][:, :, -1], puzzle[:, None], solution[:, None])
            scores[name] = accuracies(of_starts, puzzle[:, None])
            if name == "trained" and self.starts > 1:
                last = {name: values[:, None, :, -1] for name, values in output.items()}
                for vote, digits in votes(last, puzzle, solution).items():
                    chosen = right(digits, puzzle[:, None], solution[:, None])
                    scores[f"{self.starts} starts: {vote}"] = accuracies(chosen, puzzle[:, None])
        if self.config.eval.baselines and "singles" in examples.attributes:
            found = right(examples.attributes["singles"], puzzle, solution)
            scores[SINGLES] = accuracies(found[:, None], puzzle[:, None])
        methods = {name: summarize(s) for name, s in scores.items()}
        return Result(
            summary={
                **methods["trained"],
                "num_starts": self.starts,
                "curves": curves,
                "baselines": {n: m for n, m in methods.items() if n != "trained"},
            },
            columns=HEADINGS,
            methods=methods,
            per_image=scores["trained"],
            pictures={"boards": draw(curves)},
        )


def right(digits: np.ndarray, puzzle: np.ndarray, solution: np.ndarray) -> np.ndarray:
    """Where digits `[..., n, n]` are those of the solution; given cells are not looked at."""
    return (digits == solution) | (puzzle > 0)


def accuracies(found: np.ndarray, puzzle: np.ndarray) -> Scores:
    """Of cells that are right `[N, K, n, n]`, the scores of each board, means over K."""
    blank = (puzzle == 0).sum(axis=(-2, -1))
    wrong = (~found).sum(axis=(-2, -1))  # [N, K]
    cells = np.where(blank > 0, 1 - wrong / np.maximum(blank, 1), np.nan)
    return {"cell_accuracy": cells.mean(axis=1), "board_accuracy": (wrong == 0).mean(axis=1)}


def votes(
    outputs: Mapping[str, np.ndarray], puzzle: np.ndarray, solution: np.ndarray
) -> dict[str, np.ndarray]:
    """What groups of starts give together, `[N, G, n, n]` by the vote.

    Args:
        outputs: "digits" `[N, G, k, n, n]` of k starts in G groups, and energies `[N, G, k]`.
        puzzle, solution: `[N, n, n]`; the solution tells which starts keep all rules.
    """
    digits = outputs["digits"]

    def least(key: np.ndarray) -> np.ndarray:
        best = np.argmin(key, axis=2)[..., None, None, None]
        return np.take_along_axis(digits, best, axis=2)[:, :, 0]

    solved = right(digits, puzzle[:, None, None], solution[:, None, None]).all(axis=(-2, -1))
    return {
        **{name: least(energy) for name, energy in outputs.items() if name != "digits"},
        "majority": majority(digits),
        "rules checked": least(~solved),
    }


def majority(digits: np.ndarray) -> np.ndarray:
    """The most frequent digit over axis 2 of `[N, G, k, n, n]`; of as many, the smallest."""
    most = np.zeros((*digits.shape[:2], *digits.shape[3:]), int)
    voted = np.zeros_like(most)
    for digit in range(1, digits.shape[-1] + 1):
        count = (digits == digit).sum(axis=2)
        voted = np.where(count > most, digit, voted)
        most = np.maximum(most, count)
    return voted


def _curves(
    output: Mapping[str, np.ndarray], puzzle: np.ndarray, solution: np.ndarray, num_steps: int
) -> dict[str, dict[str, list[float]]]:
    """Board accuracies over "num_steps" and over "num_starts", by the vote."""
    num_starts, num_readouts = output["digits"].shape[1:3]

    def boards(readout: int, k: int) -> dict[str, float]:
        groups = num_starts // k
        some = {n: v[:, : groups * k, readout] for n, v in output.items()}
        some = {n: v.reshape(len(v), groups, k, *v.shape[2:]) for n, v in some.items()}
        one = right(some["digits"], puzzle[:, None, None], solution[:, None, None])
        found = {ONE: float(one.all(axis=(-2, -1)).mean())}
        if num_starts > 1:
            for name, digits in votes(some, puzzle, solution).items():
                chosen = right(digits, puzzle[:, None], solution[:, None])
                found[name] = float(chosen.all(axis=(-2, -1)).mean())
        return found

    over_steps = [boards(readout, num_starts) for readout in range(num_readouts)]
    starts = readout_steps(num_starts)
    over_starts = [boards(num_readouts - 1, k) for k in starts]
    return {
        axis: {"at": at, **{name: [p[name] for p in points] for name in points[0]}}
        for axis, at, points in (
            ("num_steps", readout_steps(num_steps), over_steps),
            ("num_starts", starts, over_starts),
        )
    }


def draw(curves: Mapping[str, Mapping[str, list[float]]]) -> bytes:
    """A picture of `_curves`, as a PNG."""
    figure = matplotlib.figure.Figure(figsize=(7, 3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"num_steps": "steps T", "num_starts": "random starts K"}
    for axes, (axis, title) in zip(panels, titles.items(), strict=True):
        curve = curves[axis]
        for name in (name for name in STYLES if name in curve):
            color, marker = STYLES[name]
            axes.plot(curve["at"], curve[name], color=color, marker=marker, ms=4, label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(curve["at"], [str(at) for at in curve["at"]])
        axes.set_xlabel(title)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("boards completed")
    panels[0].set_ylim(-0.02, 1.02)
    panels[0].legend(fontsize=7)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _field(examples: Examples, name: str) -> np.ndarray:
    if name not in examples.attributes:
        raise UserError(f"The data have no {name!r}; choose other config.eval.evaluators.")
    return examples.attributes[name]
