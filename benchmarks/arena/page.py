"""The arena's page, `arena.html`, with the same figures as `arena.json` and `arena.md`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from etils import epath

from akorn_jax import report
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.evaluation.plots import colorize
from akorn_jax.report import scenes as pictures
from akorn_jax.report.page import number
from akorn_jax.runtime import provenance, storage
from benchmarks import machine
from benchmarks.arena import results, runs
from benchmarks.arena.results import COSTS, SCORES, Row
from benchmarks.arena.score import NUM_SCENES
from configs import arena

HERE = Path(__file__).parent
REPORT = Path(report.__file__).parent
FILE = "arena.html"
MAX_BYTES = 5_000_000
SHOWN = ("fg_ari", "mbo", "ari", "miou")  # columns of the page
DOT_COLUMNS = ("fg_ari", "mbo")  # that have a dot for each seed


@dataclasses.dataclass(frozen=True)
class Strip:
    """The same scenes side by side.

    Attributes:
        segments: data URI of the label maps as colours.
        recon: of the reconstructions; None where there are none.
    """

    segments: str
    recon: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """One set of scenes.

    Attributes:
        scenes: its name.
        num_images: that all are scored on.
        rows: systems and trivial baselines, the best first.
        strips: by the rows' names.
        images, truth: data URIs of the scenes.
        best: the highest mean of a trivial baseline, by score.
    """

    scenes: str
    num_images: int
    rows: list[Row]
    strips: dict[str, Strip]
    images: str
    truth: str
    best: dict[str, float]


def write(
    out: Path, names: Sequence[str], seeds: int, budget: runs.Budget, overrides: Sequence[str]
) -> None:
    """Writes `arena.html`, `arena.json` and `arena.md` of what there is, each whole."""
    tables = [table(out, name, seeds, overrides) for name in names]
    facts = {"machine": machine.describe(), "versions": provenance.versions()}
    page = render("page.html.j2", tables=tables, budget=budget, seeds=seeds, **facts)
    content = {
        "budget": dataclasses.asdict(budget),
        **facts,
        "absent": arena.ABSENT,
        "scenes": {
            t.scenes: {"num_images": t.num_images, "rows": [row.as_json() for row in t.rows]}
            for t in tables
        },
    }
    files = {
        FILE: page,
        "arena.json": json.dumps(content, indent=1) + "\n",
        "arena.md": render("arena.md.j2", tables=tables, budget=budget, seeds=seeds, **facts),
    }
    for name, text in files.items():
        storage.write(epath.Path(out / name), text.encode())


def table(out: Path, name: str, seeds: int, overrides: Sequence[str]) -> Table:
    """What is known of one set of scenes."""
    scenes = results.load(out, name, overrides)
    data, shown = scenes.examples, slice(NUM_SCENES)
    systems = results.systems(out, name, seeds)
    true = data.segmentation[shown]

    def segments(labels: np.ndarray) -> str:
        matched = match_labels(true, labels[shown], ignore_ids=data.ignore_ids)
        return strip(colorize(matched))

    strips = {row.name: Strip(segments(scenes.maps[row.name])) for row in scenes.trivial}
    for row in systems:
        first = next((seed["seed"] for seed in row.seeds if not seed["failed"]), None)
        if first is not None:
            labels, recon = runs.pictures(runs.Entry(out, name, row.name, first), NUM_SCENES)
            strips[row.name] = Strip(segments(labels), None if recon is None else strip(recon))
    means = {
        s: [results.mean_and_error(row.values(s))[0] for row in scenes.trivial] for s in SCORES
    }
    return Table(
        scenes=name,
        num_images=len(data),
        rows=results.by_score([*systems, *scenes.trivial]),
        strips=strips,
        images=strip(data.images[shown]),
        truth=strip(colorize(true)),
        best={score: max(v for v in values if v is not None) for score, values in means.items()},
    )


def strip(frames: np.ndarray) -> str:
    """Data URI of pictures `[N, H, W, 3]` side by side, two white columns between them."""
    padded = np.pad(frames, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
    joined = np.concatenate(list(padded), axis=1)[:, :-2]
    return pictures.png(joined)


def render(template: str, **values: Any) -> str:
    """A page from its template; those of the report are at hand too."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, REPORT]),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "cost": cost}
    return environment.get_template(template).render(
        absent=arena.ABSENT,
        costs=COST_TITLES,
        scores=SCORES,
        shown=SHOWN,
        dotted=DOT_COLUMNS,
        mean_and_error=results.mean_and_error,
        nearly=round(100 * runs.NEARLY),
        style=(REPORT / "style.css").read_text() + (HERE / "arena.css").read_text(),
        script=(HERE / "arena.js").read_text(),
        **values,
    )


COST_TITLES = dict(
    zip(
        COSTS,
        ("parameters", "training, s", "images/s", f"s to {runs.NEARLY:.0%}", "memory, MB"),
        strict=True,
    )
)


def cost(value: float | None) -> str:
    """What something took, for people: three digits, or whole numbers; a dash where not known."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
