"""Puts a report together and writes it."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jinja2
import numpy as np
from absl import logging
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import evaluate, run_config, sample
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation.plots import PALETTE
from akorn_jax.report import charts, panels, scenes, scores
from akorn_jax.report import run as runs
from akorn_jax.report.run import Run
from akorn_jax.report.scenes import css
from akorn_jax.runtime import progress
from akorn_jax.training import train_state

HERE = Path(__file__).parent
FILE = "report.html"
DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error)  # of a file read back
MAX_BYTES = 5_000_000
NUM_SCENES = 6  # that the model's inside is shown of

# Curves in the order in which they are shown; others that begin with eval/ come after them.
CURVES = {
    "train/loss": "loss",
    "train/images_per_sec": "images per second",
    "train/learning_rate": "learning rate",
    "train/grad_norm": "gradient norm",
}


def write(
    config: ConfigDict, workdir: epath.PathLike, compare: Sequence[epath.PathLike] = ()
) -> epath.Path:
    """Writes `DIR/report.html`, and `DIR/figures/oscillators.gif` where there are oscillators.

    Needs nothing but the directory of an evaluated run and its prepared data.

    Args:
        config: of the run.
        workdir: DIR.
        compare: directories of other evaluated runs, whose scores stand beside.

    Returns:
        The report's path.

    Raises:
        UserError: a directory holds no evaluated run or cannot be written.
    """
    run = runs.read(workdir, config)
    others = [runs.read(directory) for directory in compare]
    checkpoint = evaluate.restore(config, run.workdir)
    step = checkpoint.step
    if step != run.summary["step"]:
        raise UserError(
            f"--workdir={run.workdir}: metrics.json is of step {run.summary['step']}, the newest "
            f"checkpoint of step {step}; evaluate again with --mode=evaluate."
        )
    examples = evaluate.load(run.config)
    page = render(run, others, checkpoint, examples)
    if len(page.encode()) > MAX_BYTES:
        logging.warning("The report has %.1f MB.", len(page.encode()) / 1e6)
    path = run.workdir / FILE
    try:
        path.write_text(page)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
    return path


def render(
    run: Run,
    others: Sequence[Run],
    checkpoint: evaluate.Checkpoint,
    examples: Examples,
) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": progress.duration}
    key = next((name for name in scores.RANKING if name in run.scores), None)
    parts: dict[str, Any] = {"gallery": [], "charts": []}
    shown = list(range(min(NUM_SCENES, len(examples))))
    if key is not None and run.scores:
        shown = scenes.spread(run.scores[key], NUM_SCENES)[::-1]
        if examples.segmentation is not None:
            parts["gallery"] = scenes.gallery(examples, predictions(run, examples), run.scores, key)
        parts["charts"] = score_charts(run, examples, key)
    outputs = panels.outputs(
        *(checkpoint.model, checkpoint.task, examples, run.config, shown),
        step=checkpoint.step,
        task_state=checkpoint.task_state,
    )
    modules = {
        name: module
        for name, module in panels.found().items()
        if module.applies(next(iter(outputs.values())))
    }
    shared = {"palette": css(PALETTE), "run": run}
    parts["panels"] = {
        name: environment.get_template(f"panels/{name}.html.j2").render(
            **shared, **module.render(run, {i: outputs[i] for i in shown}, examples)
        )
        for name, module in modules.items()
    }
    parts["titles"] = {name: module.TITLE for name, module in modules.items()}
    parts["samples"] = samples(run)
    return environment.get_template("page.html.j2").render(
        run=run,
        key=key,
        title=scores.title,
        facts=facts(run, checkpoint.model),
        columns=scores.columns(run),
        sortings=scores.sortings(run),
        groups=scores.table(run, others),
        by_color=scores.by_color(run, key) if key else [],
        health=scores.health(run),
        probes=scores.probes(run),
        curves=training_charts(run),
        settings=_settings(run.config),
        palette=css(PALETTE),
        style=(HERE / "style.css").read_text(),
        script=(HERE / "script.js").read_text(),
        **parts,
    )


def predictions(run: Run, examples: Examples) -> np.ndarray:
    """The label maps `[N, H, W]` that were scored.

    Raises:
        UserError: they are not there, or of another evaluation.
    """
    path = run.workdir / evaluate.PREDICTIONS
    expected = (len(examples), *examples.images.shape[1:3])
    try:
        with path.open("rb") as file, np.load(file) as kept:
            labels = kept["labels"]
            if kept["step"] == run.summary["step"] and labels.shape == expected:
                return labels
    except (*DAMAGE, zipfile.BadZipFile) as error:
        logging.warning("%s cannot be read (%s).", path, error)
    raise UserError(
        f"--workdir={run.workdir}: {path.name} does not fit metrics.json; evaluate again with "
        "--mode=evaluate."
    )


def samples(run: Run) -> str | None:
    """A data URI of the images that `--mode=sample` drew; None where it did not."""
    path = run.workdir / sample.FILE
    return scenes.uri(path.read_bytes(), "image/png") if path.exists() else None


def score_charts(run: Run, examples: Examples, key: str) -> list[tuple[str, str]]:
    """(data URI, alt text) of the charts beside the table."""
    found = []
    names = [name for name in ("fg_ari", "mbo") if run.summary.get(name) is not None]
    names = [name for name in names if name in run.scores]
    methods = {"this run": run.summary, **run.summary.get("baselines", {})}
    for name in names:
        rows = {method: row for method, row in methods.items() if row.get(name) is not None}
        if len(rows) < 2:
            continue
        label, values = scores.title(name), [row[name] for row in rows.values()]
        errors = [row.get(f"{name}_se", 0.0) for row in rows.values()]
        text = ", ".join(f"{n} {v:.3f}" for n, v in zip(rows, values, strict=True))
        alt = f"{label} of this run and of the baselines: {text}."
        found.append((charts.bars(list(rows), values, errors, label), alt))
    for name in names:
        label, mean = scores.title(name), run.summary[name]
        alt = f"Histogram of {label} over {len(examples)} scenes; the mean is {mean:.3f}."
        found.append((charts.histogram(run.scores[name], label, mean), alt))
    if names and len(np.unique(examples.counts)) > 1:
        label = scores.title(key)
        alt = f"{label} against the number of objects in the scene."
        found.append((charts.by_count(examples.counts, run.scores[key], label), alt))
    return found


def training_charts(run: Run) -> list[tuple[str, str]]:
    """(data URI, alt text) of the curves of training."""
    tags = dict(CURVES)
    tags |= {tag: tag.replace("/", " ") for tag in run.curves if tag.startswith("eval/")}
    found = []
    for tag, label in tags.items():
        steps, values = run.curves.get(tag, ((), ()))
        if len(set(steps)) > 1:  # else the tables say it
            alt = f"{label} over {steps[-1]} steps, from {values[0]:.4g} to {values[-1]:.4g}."
            found.append((charts.curve(steps, values, label), alt.capitalize()))
    return found


def facts(run: Run, model: nnx.Module) -> dict[str, str]:
    """What the head of the page says of the run."""
    _, params, _ = train_state.split(model)
    found = {
        "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,}",
        "steps": f"{run.summary['step']:,}",
    }
    seconds = run.training_seconds()
    if seconds is not None:
        found["training time"] = progress.duration(seconds)
    return found


def number(value: float | None, digits: int = 3) -> str:
    """A score for people; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}"


def _settings(config: ConfigDict) -> list[tuple[str, Any]]:
    """All fields but the published scores, which have their own table."""
    return [row for row in _flat(run_config.to_dict(config)) if row[0] != "published"]


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Fields by their full names."""
    rows = []
    for name, value in sorted(tree.items()):
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
