"""What an evaluation found, before it is written or printed."""

import dataclasses
from typing import Any

import numpy as np

Scores = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Result:
    """Scores of a trained model on N images, beside those of others.

    Attributes:
        summary: what `metrics.json` holds, but for where it comes from.
        columns: scores worth a column of the printed table, with their headings.
        methods: their summaries by method; the trained model comes first.
        notes: what to print below the table.
        per_image: `[N]` scores of the trained model by name; NaN where an image has none.
        labels: its label maps `[N, H, W]`; None where it was not asked to segment.
        files: what else to write into the run's directory, by path.
        pictures: PNGs by name, for `figures/NAME.png` and for the dashboard.
        logged: names of scores for the dashboard beside those of `columns`.
    """

    summary: dict[str, Any]
    columns: dict[str, str]
    methods: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()
    per_image: Scores = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    pictures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    logged: tuple[str, ...] = ()

    def scalars(self) -> dict[str, float]:
        """The trained model's scores for a dashboard, by name."""
        found = {name: self.summary.get(name) for name in (*self.columns, *self.logged)}
        return {name: score for name, score in found.items() if isinstance(score, float)}


def summarize(scores: Scores) -> dict[str, float]:
    """Mean over images of each score, and its standard error as `<score>_se`.

    Images without a score (NaN) are left out.
    """
    summary = {}
    for name, values in scores.items():
        values = values[~np.isnan(values)]
        summary[name] = float(np.mean(values)) if len(values) else None
        if len(values) > 1:
            summary[f"{name}_se"] = float(np.std(values, ddof=1) / len(values) ** 0.5)
    return summary
