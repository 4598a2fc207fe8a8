"""Tables of scores: this run, runs beside it, baselines, and what was published."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from akorn_jax import run_config
from akorn_jax.errors import UserError
from akorn_jax.evaluation import slot_health
from akorn_jax.evaluation.set_prediction import HEADINGS
from akorn_jax.report.run import Run

SEGMENTATION = {"fg_ari": "FG-ARI", "mbo": "mBO", "ari": "ARI", "miou": "mIoU", "mse": "MSE"}
CLASSIFICATION = {"top1_error": "top-1 error", "knn_accuracy": "k-NN accuracy"}
# What a run is best known for first.
NAMES = HEADINGS | SEGMENTATION | CLASSIFICATION
DCI = ("disentanglement", "completeness", "informativeness")
ERRORS = ("mse", "top1_error")  # less is better
SCENES = ("name", "crop", "size", "interpolation")  # fields of `config.data`: what scenes show
RANKING = ("fg_ari", "mbo", "ari", "miou")  # what scenes are ranked by: the first that there is


@dataclasses.dataclass(frozen=True)
class Cell:
    """A score and its uncertainty, either None where it is not known."""

    value: float | None
    error: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: what it is about, its cells, and what its uncertainty means."""

    name: str
    cells: list[Cell]
    error: str
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows under a heading, with an explanation where one is needed."""

    title: str
    rows: list[Row]
    note: str = ""


def title(score: str) -> str:
    """How people call a score."""
    return NAMES.get(score, score)


def columns(run: Run) -> list[str]:
    """The scores that a run has."""
    return [name for name in NAMES if name in run.summary]


def sortings(run: Run) -> list[tuple[str, str]]:
    """What scenes can be sorted by: (attribute and sign, label)."""
    found = []
    for name in [name for name in columns(run) if name in run.scores]:
        best = 1 if name in ERRORS else -1
        found.append((f"{name} {best}", f"{title(name)}, best first"))
        found.append((f"{name} {-best}", f"{title(name)}, worst first"))
    found += [("objects 1", "objects, fewest first"), ("objects -1", "objects, most first")]
    return [*found, ("index 1", "order of the data")]


def table(run: Run, others: Sequence[Run]) -> list[Group]:
    """All groups of rows of a run and those it is compared with.

    Raises:
        UserError: a run is given twice.
    """
    names, seeds = columns(run), [run]
    for other in others:
        if _recipe(other) == _recipe(run):
            seeds.append(other)
    _check_seeds(seeds)
    rest = [other for other in others if other not in seeds]
    rows = [_row(run.name, run.summary, names, "this run")]
    rows += [_row(other.name + _other_scenes(other, run), other.summary, names) for other in rest]
    groups = [Group("Runs", rows)]
    if len(seeds) > 1:
        groups.append(_seeds(seeds, names))
    if run.elsewhere:
        rows = [_row(summary["dataset"], summary, names) for summary in run.elsewhere]
        groups.append(Group("This run on other datasets", rows, "Not trained on any of them."))
    baselines = run.summary.get("baselines", {})
    if baselines:
        rows = [_row(name, scores, names) for name, scores in baselines.items()]
        note = "On the same scenes. A model has found objects only where it beats the best of them."
        groups.append(Group("Baselines: the untrained model, position and color alone", rows, note))
    return groups + published(run, names)


def _row(name: str, scores: dict[str, Any], names: Sequence[str], kind: str = "") -> Row:
    cells = [Cell(scores.get(n), scores.get(f"{n}_se")) for n in names]
    return Row(name, cells, "standard error over scenes", kind)


def _other_scenes(other: Run, run: Run) -> str:
    """What differs between the scenes of two runs; empty where they are the same."""
    theirs, ours = (run_config.to_dict(r.config)["data"] for r in (other, run))
    fields = (*SCENES, run.summary["split"])
    found = [f"data.{f} {theirs.get(f)}" for f in fields if theirs.get(f) != ours.get(f)]
    if other.summary["split"] != run.summary["split"]:
        found.append(f"split {other.summary['split']}")
    return f" (other scenes: {', '.join(found)})" if found else ""


def _recipe(run: Run) -> dict[str, Any]:
    """What runs share that differ in nothing but their seed."""
    config = run_config.to_dict(run.config)
    fields = set(run_config.IDENTITY) - {"seed", "data"} | {"num_steps", "eval"}
    shared = {field: config.get(field) for field in fields}
    shared["data"] = {k: v for k, v in config["data"].items() if k not in run_config.PLACES}
    return shared


def _check_seeds(runs: Sequence[Run]) -> None:
    seen = {}
    for run in runs:
        seed = run.config.seed
        if seed in seen:
            raise UserError(
                f"--compare={run.workdir}: has the recipe and the seed {seed} of {seen[seed]}; "
                "compare with runs of other seeds."
            )
        seen[seed] = run.workdir


def _seeds(runs: Sequence[Run], names: Sequence[str]) -> Group:
    """Every seed's means, and their mean with the standard error over seeds."""
    rows = [_row(f"seed {run.config.seed}", run.summary, names) for run in runs]
    cells = []
    for name in names:
        values = [run.summary.get(name) for run in runs]
        if None in values:
            cells.append(Cell(None))
            continue
        values = np.array(values)
        cells.append(Cell(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)))
    mean = Row(f"mean of {len(runs)} seeds", cells, "standard error over seeds", "this run")
    return Group("Seeds of this recipe", [*rows, mean])


def published(run: Run, names: Sequence[str]) -> list[Group]:
    """What papers report on the same data, from `config.published`; nothing on synthetic data.

    An entry names its method, source and dataset, and has scores in [0, 1] as `[mean, std]`.
    """
    groups = {}
    here = run.config.data.name
    datasets = {here, *(summary["dataset"] for summary in run.elsewhere)}
    for entry in run.config.get("published", ()):
        if entry["dataset"] not in datasets:
            continue
        cells = [Cell(*entry[n]) if n in entry else Cell(None) for n in names]
        place = "" if entry["dataset"] == here else f", {entry['dataset']}"
        row = Row(entry["method"] + place, cells, "standard deviation over seeds", "published")
        groups.setdefault(entry["source"], []).append(row)
    note = "Copied from the paper, not measured here; ± is the standard deviation over seeds."
    return [Group(f"Published in {source}", rows, note) for source, rows in groups.items()]


def health(run: Run) -> list[tuple[str, float]]:
    """What tells whether the slots do their work: (meaning, number) of those that the run has."""
    found = ((text, run.summary.get(name)) for name, text in slot_health.MEANINGS.items())
    return [(text, value) for text, value in found if value is not None]


@dataclasses.dataclass(frozen=True)
class Probes:
    """Tables of what representations tell of the objects' attributes.

    Attributes:
        columns: attribute and what it is scored by.
        groups: kind of probe, and by method the score of each attribute, None where there is none.
        dci_columns: the numbers of `dci`.
        dci: by method disentanglement, completeness, informativeness, and the share of the objects
            that a segment is matched with.
    """

    columns: list[tuple[str, str]]
    groups: list[tuple[str, list[tuple[str, list[float | None]]]]]
    dci_columns: tuple[str, ...]
    dci: list[tuple[str, list[float | None]]]


def probes(run: Run) -> Probes | None:
    """The tables of a run whose representations were probed."""
    found = run.summary.get("probes")
    if found is None:
        return None
    kinds = {"r2": "R²", "accuracy": "accuracy"}
    methods = {"this run" if n == "trained" else n: m for n, m in found["methods"].items()}
    groups = [
        (
            title,
            [(n, [m[kind][a] for a in found["kinds"]]) for n, m in methods.items() if kind in m],
        )
        for kind, title in (("linear", "Linear probes"), ("mlp", "Multilayer perceptron"))
    ]
    matched = {"this run" if n == "trained" else n: share for n, share in found["matched"].items()}
    dci = [(n, [*(methods[n]["dci"].get(d) for d in DCI), m]) for n, m in matched.items()]
    columns = [(name, kinds[kind]) for name, kind in found["kinds"].items()]
    return Probes(columns, groups, (*DCI, "objects matched"), dci)


def by_color(run: Run, score: str) -> list[tuple[str, list[Cell]]]:
    """A score of each method on all scenes, on those with distinct and with repeated colours."""
    groups = run.summary.get("by_color", {})
    if not groups:
        return []
    methods = {"this run": ("trained", run.summary)}
    methods |= {name: (name, scores) for name, scores in run.summary["baselines"].items()}
    rows = []
    for method, (key, everywhere) in methods.items():
        if score not in everywhere:  # of another evaluator than the one that groups by colour
            continue
        parts = [everywhere, *(group[key] for group in groups.values())]
        rows.append((method, [Cell(p[score], p.get(f"{score}_se")) for p in parts]))
    return rows
