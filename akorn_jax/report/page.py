"""Puts a report together and writes it."""

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

from akorn_jax import config as configs
from akorn_jax import evaluate, progress
from akorn_jax import state as states
from akorn_jax.data import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation.plots import PALETTE, colorize
from akorn_jax.report import animation, charts, contents, oscillators, scenes, scores, slots
from akorn_jax.report import run as runs
from akorn_jax.report.run import Run

HERE = Path(__file__).parent
FILE = "report.html"
MAX_BYTES = 5_000_000
NUM_SCENES = 6  # that the model's inside is shown of

# Curves in the order in which they are shown; others that begin with eval/ come after them.
CURVES = {
    "train/loss": "loss",
    "train/images_per_sec": "images a second",
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
    step, model = evaluate.restore(states.build_model(config.model, config.seed), run.workdir)
    if step != run.summary["step"]:
        raise UserError(
            f"--workdir={run.workdir}: metrics.json is of step {run.summary['step']}, the newest "
            f"checkpoint of step {step}; evaluate again with --mode=evaluate."
        )
    examples = evaluate.load(run.config)
    page = render(run, others, model, examples)
    if len(page.encode()) > MAX_BYTES:
        logging.warning("The report has %.1f MB.", len(page.encode()) / 1e6)
    path = run.workdir / FILE
    try:
        path.write_text(page)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
    return path


def render(run: Run, others: Sequence[Run], model: nnx.Module, examples: Examples) -> str:
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
    parts: dict[str, Any] = {
        "gallery": [], "frames": None, "slots": [], "iterations": [], "charts": [],
    }  # fmt: skip
    output = contents.of(model, run.config, examples.images.shape[1:])
    shown = list(range(min(NUM_SCENES, len(examples))))
    if key is not None:
        shown = scenes.spread(run.scores[key], NUM_SCENES)[::-1]
        parts["gallery"] = scenes.gallery(examples, predictions(run, examples), run.scores, key)
        parts["charts"] = score_charts(run, examples, key)
        if oscillators.move(output):
            parts["frames"] = moving(run, model, examples, shown)
    if slots.seen(output):
        parts["slots"] = slots.draw(model, run.config, examples, shown)
        parts["iterations"] = slots.iterations(output)
    return environment.get_template("page.html.j2").render(
        run=run,
        key=key,
        title=scores.title,
        facts=facts(run, model),
        columns=scores.columns(run),
        sortings=scores.sortings(run),
        groups=scores.table(run, others),
        by_color=scores.by_color(run, key) if key else [],
        curves=training_charts(run),
        settings=_settings(run.config),
        palette=_css(PALETTE),
        shades=_css(slots.SHADES[:: len(slots.SHADES) // 15]),
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
    if path.exists():
        with path.open("rb") as file, np.load(file) as kept:
            if kept["step"] == run.summary["step"] and len(kept["labels"]) == len(examples):
                return kept["labels"]
    raise UserError(
        f"--workdir={run.workdir}: {path.name} does not fit metrics.json; evaluate again with "
        "--mode=evaluate."
    )


def score_charts(run: Run, examples: Examples, key: str) -> list[tuple[str, str]]:
    """(data URI, alt text) of the charts beside the table."""
    found = []
    names = [name for name in ("fg_ari", "mbo") if name in run.scores]
    rows = {"this run": run.summary, **run.summary.get("baselines", {})}
    for name in names if len(rows) > 1 else ():
        label, values = scores.title(name), [row[name] for row in rows.values()]
        errors = [row.get(f"{name}_se", 0.0) for row in rows.values()]
        text = ", ".join(f"{n} {v:.3f}" for n, v in zip(rows, values, strict=True))
        alt = f"{label} of this run and of the controls: {text}."
        found.append((charts.bars(list(rows), values, errors, label), alt))
    for name in names:
        label, mean = scores.title(name), run.summary[name]
        alt = f"Histogram of {label} over {len(examples)} scenes; the mean is {mean:.3f}."
        found.append((charts.histogram(run.scores[name], label, mean), alt))
    if len(np.unique(examples.counts)) > 1:
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


def moving(
    run: Run, model: nnx.Module, examples: Examples, indices: Sequence[int]
) -> dict[str, Any]:
    """What the page's section on oscillators shows; the animation is written on the way."""
    frames = oscillators.follow(model, run.config, examples, indices)
    animation.write(run.workdir / "figures" / "oscillators.gif", frames, examples)
    return {
        "names": frames.names,
        "has_energy": frames.energies is not None,
        "energy_range": _energy_range(frames.energies),
        "scenes": [_moving_scene(frames, examples, i) for i in range(len(indices))],
    }


def _energy_range(energies: np.ndarray | None) -> tuple[float, float] | None:
    return None if energies is None else (float(energies.min()), float(energies.max()))


def _moving_scene(frames: oscillators.Frames, examples: Examples, place: int) -> dict[str, Any]:
    index = frames.indices[place]
    clusters = np.stack([scenes.shrink(labels) for labels in frames.clusters[:, place]])
    heights = []
    if frames.energies is not None:
        low, high = _energy_range(frames.energies)
        heights = 100 * (high - frames.energies[:, place]) / max(high - low, 1e-12)
    return {
        "index": index,
        "image": scenes.picture(scenes.shrink_image(examples.images[index])),
        "true": scenes.label_picture(scenes.shrink(examples.labels[index])),
        "phases": scenes.film(frames.phases[:, place]),
        "clusters": scenes.film(colorize(clusters)),
        "heights": [round(float(h), 1) for h in heights],
    }


def facts(run: Run, model: nnx.Module) -> dict[str, str]:
    """What the head of the page says of the run."""
    _, params, _ = states.split(model)
    found = {
        "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,}",
        "steps": f"{run.summary['step']:,}",
    }
    seconds = run.training_seconds()
    if seconds is not None:
        found["training time"] = progress.duration(seconds)
    return found


def _css(colors: np.ndarray) -> list[str]:
    """Colours `[N, 3]` uint8 as style sheets have them."""
    return ["#" + bytes(color).hex() for color in colors]


def number(value: float | None, digits: int = 3) -> str:
    """A score for people; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}"


def _settings(config: ConfigDict) -> list[tuple[str, Any]]:
    """All fields but the published scores, which have their own table."""
    return [row for row in _flat(configs.to_dict(config)) if row[0] != "published"]


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Fields by their full names."""
    rows = []
    for name, value in sorted(tree.items()):
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
