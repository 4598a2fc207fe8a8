"""How slot models fare with more objects and slots than they were trained with (arXiv 2407.04170).

    python -m benchmarks.cardinality --workdirs=runs/mean,runs/sum,runs/batch_norm \\
        --num_slots=7,11 --out=runs/cardinality

gives FG-ARI against the number of objects, for each way to gather (the runs' `aggregation`) and
each number of slots: `cardinality.png`, `cardinality.md` and `cardinality.json` in the directory.
Scenes are those of the part `config.eval.split`, whatever number of objects the training kept; of
runs that differ by their seed alone, say, the curve is the mean. Settings such as
--config.eval.num_iterations=5 hold for all runs.
"""

import argparse
import collections
import dataclasses
import io
import json
import sys
from collections.abc import Sequence

import numpy as np
import rich.console
import rich.markdown
from absl import logging
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from akorn_jax import evaluate, run_config
from akorn_jax.data import records
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import options, segmentation
from akorn_jax.evaluation.plots import PALETTE
from akorn_jax.runtime import progress
from benchmarks import command

NAMES = {
    "mean": "weighted mean",
    "constant": "weighted sum",
    "layer_norm": "layer norm",
    "scalar_batch_norm": "batch norm",
}
MARKERS = "osD^vP*X"


@dataclasses.dataclass(frozen=True)
class Curve:
    """FG-ARI of the runs of one kind with one number of slots.

    Attributes:
        kind: how slots gather.
        num_slots: K.
        counts: `[P]`, numbers of objects, ascending.
        means: `[P]`, of the runs' means over scenes.
        errors: `[P]`, standard errors: over runs, of a single run over scenes; NaN of one scene.
        num_scenes: `[P]`.
        num_runs: how many runs.
    """

    kind: str
    num_slots: int
    counts: list[int]
    means: list[float]
    errors: list[float]
    num_scenes: list[int]
    num_runs: int


def main(arguments: Sequence[str]) -> None:
    """Evaluates the runs and writes the files; raises UserError for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cardinality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--workdirs", metavar="A,B,...", required=True)
    parser.add_argument("--num_slots", metavar="K,K,...", required=True)
    parser.add_argument("--out", metavar="DIR", required=True, type=epath.Path)
    options, overrides = parser.parse_known_args(arguments)
    for argument in overrides:
        if not (argument.startswith("--config.") and "=" in argument):
            raise UserError(f"{argument}: no such option; see --help.")
    num_slots = _numbers(options.num_slots)
    workdirs = [epath.Path(name).expanduser() for name in options.workdirs.split(",") if name]
    runs = [(w, run_config.override(run_config.from_workdir(w), overrides)) for w in workdirs]
    datasets = sorted({config.data.name for _, config in runs})
    if len(datasets) != 1:
        raise UserError(f"--workdirs: runs on {', '.join(datasets)}; compare runs on one dataset.")
    run_config.make_directory(options.out)
    progress.setup_logging(options.out)
    found = measure(runs, num_slots)
    trained = {config.data.max_objects for _, config in runs}
    write(options.out, found, datasets[0], trained.pop() if len(trained) == 1 else None)
    console = rich.console.Console()
    console.print(rich.markdown.Markdown(table(found)))
    console.print(f"Figure: {options.out / 'cardinality.png'}", soft_wrap=True)


def _numbers(text: str) -> list[int]:
    try:
        numbers = sorted({int(number) for number in text.split(",")})
    except ValueError:
        numbers = [0]
    if numbers[0] < 1:
        raise UserError(f"--num_slots={text}: give positive numbers, e.g. 7,11.")
    return numbers


def measure(
    runs: Sequence[tuple[epath.Path, run_config.ConfigDict]], num_slots: Sequence[int]
) -> list[Curve]:
    """The curves of all kinds of runs with each number of slots.

    Args:
        runs: directory and config of each.
        num_slots: as evaluated.

    Raises:
        UserError: a run has no checkpoint, or its model takes no number of slots.
    """
    scores = collections.defaultdict(list)  # (kind, slots) -> of each run, FG-ARI by count
    for workdir, config in runs:
        objects = options.bounds(config.eval) or (None, None)
        examples = records.load(config.data, config.eval.split, config.data_dir, objects=objects)
        step, model, task, _ = evaluate.restore(config, workdir)
        for slots in num_slots:
            logging.info("%s, step %d: %d scenes, %d slots.", workdir, step, len(examples), slots)
            with config.eval.unlocked():
                config.eval.options.num_slots = slots
            labels = segmentation.segment(model, task, examples, config, step=step)
            scores[kind(config, workdir), slots].append(by_count(examples, labels))
    return [_curve(*key, found) for key, found in sorted(scores.items())]


def kind(config: run_config.ConfigDict, workdir: epath.Path) -> str:
    """What a run is called: how its slots gather."""
    if "aggregation" not in config.model:
        return workdir.name
    name = NAMES.get(config.model.aggregation, config.model.aggregation)
    return f"{name}, implicit" if config.model.get("gradient") == "implicit" else name


def by_count(examples: Examples, labels: np.ndarray) -> dict[int, np.ndarray]:
    """FG-ARI of the scenes by their number of objects."""
    fg_ari = segmentation.compare(examples, labels)["fg_ari"]
    return {int(n): fg_ari[examples.counts == n] for n in np.unique(examples.counts)}


def _curve(kind: str, num_slots: int, runs: list[dict[int, np.ndarray]]) -> Curve:
    counts = sorted(set().union(*runs))
    means, errors = [], []
    for count in counts:
        scores = [run[count] for run in runs if count in run]
        sample = scores[0] if len(runs) == 1 else np.array([s.mean() for s in scores])
        means.append(float(sample.mean()))
        spread = sample.std(ddof=1) / len(sample) ** 0.5 if len(sample) > 1 else np.nan
        errors.append(float(spread))
    scenes = [max(len(run.get(count, ())) for run in runs) for count in counts]
    return Curve(kind, num_slots, counts, means, errors, scenes, len(runs))


def table(curves: Sequence[Curve]) -> str:
    """The curves as a table in Markdown, FG-ARI in %."""
    counts = sorted(set().union(*(curve.counts for curve in curves)))
    lines = [
        "| aggregation | slots | runs | " + " | ".join(f"{n} objects" for n in counts) + " |",
        "|---|" + "---:|" * (len(counts) + 2),
    ]
    for curve in curves:
        cells = dict(zip(curve.counts, map(_cell, curve.means, curve.errors), strict=True))
        row = " | ".join(cells.get(n, "") for n in counts)
        lines.append(f"| {curve.kind} | {curve.num_slots} | {curve.num_runs} | {row} |")
    return "\n".join(lines) + "\n"


def _cell(mean: float, error: float) -> str:
    return f"{100 * mean:.1f}" + ("" if np.isnan(error) else f" ± {100 * error:.1f}")


def draw(curves: Sequence[Curve], dataset: str, trained: int | None) -> bytes:
    """The curves as a PNG: one panel per slot count, one line per aggregation.

    Args:
        curves: of `measure`.
        dataset: for the title.
        trained: the largest number of objects in training, marked; None: no line.
    """
    slots = sorted({curve.num_slots for curve in curves})
    kinds = sorted({curve.kind for curve in curves})
    counts = sorted(set().union(*(curve.counts for curve in curves)))
    figure = Figure(figsize=(3.2 * len(slots) + 1.6, 3.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(slots), sharey=True, squeeze=False)[0]
    for panel, number in zip(panels, slots, strict=True):
        if trained is not None:
            panel.axvline(trained + 0.5, color="0.6", linestyle=":", linewidth=1)
        for i, name in enumerate(kinds):
            (curve,) = [c for c in curves if (c.kind, c.num_slots) == (name, number)]
            panel.errorbar(
                curve.counts,
                100 * np.array(curve.means),
                100 * np.nan_to_num(curve.errors),
                color=PALETTE[1 + i] / 255,
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                linewidth=1.4,
                capsize=2,
                label=name,
            )
        panel.set_title(f"{number} slots", fontsize=10)
        panel.set_xlabel("objects")
        panel.set_xticks(counts)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("FG-ARI, %")
    seen = "" if trained is None else f" (dotted: at most {trained} objects in training)"
    figure.suptitle(f"{dataset}{seen}", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def write(out: epath.Path, curves: Sequence[Curve], dataset: str, trained: int | None) -> None:
    """Writes figure, table and numbers.

    Raises:
        UserError: the directory cannot be written.
    """
    numbers = {"dataset": dataset, "curves": [dataclasses.asdict(curve) for curve in curves]}
    try:
        (out / "cardinality.png").write_bytes(draw(curves, dataset, trained))
        (out / "cardinality.md").write_text(f"FG-ARI in %, {dataset}\n\n{table(curves)}")
        (out / "cardinality.json").write_text(json.dumps(numbers, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror}).") from error


if __name__ == "__main__":
    command.run(lambda: main(sys.argv[1:]))
