"""What the arena found: systems beside trivial baselines, seed by seed, on each set of scenes."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from akorn_jax import evaluate, run_config
from akorn_jax.data.records import Examples
from akorn_jax.evaluation.result import summarize
from akorn_jax.evaluation.segmentation import baseline_maps, compare
from akorn_jax.runtime import storage
from benchmarks.arena import runs
from benchmarks.arena.runs import Entry
from configs import arena

SCORES = {"fg_ari": "FG-ARI", "mbo": "mBO", "ari": "ARI", "miou": "mIoU"}
COSTS = ("parameters", "seconds", "images_per_second", "seconds_to_nearly", "megabytes")
TRIVIAL = {
    "position": "position: a grid",
    "token colors": "colours of patches",
    "token textures": "mean and deviation of patches",
    "pixel colors": "colours of pixels",
    "color components": "colour and regions",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A system, or a trivial baseline.

    Attributes:
        name: of the variant or the baseline.
        title: what it is called.
        trivial: whether it needs no training.
        seeds: see `runs.read`; of a baseline one, with its scores.
    """

    name: str
    title: str
    trivial: bool
    seeds: list[dict[str, Any]]

    def values(self, score: str, of: str = "scores") -> list[float]:
        """A score of each seed that has it."""
        found = [seed[of].get(score) for seed in self.seeds if not seed["failed"]]
        return [value for value in found if value is not None]

    def cost(self, name: str) -> float | None:
        """The mean over seeds of what a run took."""
        found = [seed.get(name) for seed in self.seeds if not seed["failed"]]
        found = [value for value in found if value is not None]
        return float(np.mean(found)) if found else None

    def failures(self) -> list[str]:
        """Why seeds failed."""
        return [f"seed {seed['seed']}: {seed['failed']}" for seed in self.seeds if seed["failed"]]

    def as_json(self) -> dict[str, Any]:
        """For `arena.json`."""
        means = {score: mean_and_error(self.values(score)) for score in SCORES}
        return {"name": self.name, "title": self.title, "trivial": self.trivial} | {
            "mean": {score: mean for score, (mean, _) in means.items()},
            "se": {score: error for score, (_, error) in means.items()},
            "seeds": self.seeds,
        }


def mean_and_error(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard error over seeds; None where there are too few."""
    if not values:
        return None, None
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return float(np.mean(values)), error


def systems(out: Path, scenes: str, seeds: int) -> list[Row]:
    """Rows of the systems of which a run has ended, the best first."""
    rows = []
    for name, system in arena.SYSTEMS.items():
        found = [runs.read(Entry(out, scenes, name, seed)) for seed in range(seeds)]
        found = [seed for seed in found if seed is not None]
        if found:
            rows.append(Row(name, system.title, False, found))
    return by_score(rows)


def by_score(rows: Sequence[Row]) -> list[Row]:
    """Rows by FG-ARI, the best first and those without it last."""
    return sorted(rows, key=lambda row: -(mean_and_error(row.values("fg_ari"))[0] or -1.0))


@dataclasses.dataclass(frozen=True)
class Scenes:
    """What all are scored on: the held-out scenes, and what needs no training finds there.

    Attributes:
        examples: the test part of the protocol.
        trivial: rows of the trivial baselines.
        maps: their label maps `[N, H, W]`, by name.
    """

    examples: Examples
    trivial: list[Row]
    maps: dict[str, np.ndarray]


def load(out: Path, scenes: str, overrides: Sequence[str]) -> Scenes:
    """The scenes of an arena; what the baselines find is computed once and kept."""
    config = run_config.override(arena.get_config(f"akorn,{scenes}"), overrides)
    examples = evaluate.load(config)
    path = out / scenes / "trivial.npz"
    if not path.exists():
        content = io.BytesIO()
        np.savez_compressed(content, **baseline_maps(examples, config))
        storage.write(epath.Path(path), content.getvalue())
    with np.load(path) as kept:
        maps = {name: kept[name] for name in TRIVIAL if name in kept}
    summaries = {name: summarize(compare(examples, labels)) for name, labels in maps.items()}
    rows = [
        Row(name, TRIVIAL[name], True, [{"seed": 0, "failed": "", "scores": summary}])
        for name, summary in summaries.items()
    ]
    return Scenes(examples, by_score(rows), maps)
