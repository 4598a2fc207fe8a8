"""Charts as SVG: small, so that they can be read on a phone without zooming."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from akorn_jax.report.scenes import uri

INK, MUTED, GRID = "#222222", "#6b7280", "#e5e7eb"
BLUE, ORANGE, GRAY = "#0077bb", "#cc6a11", "#9ca3af"  # distinct for colour-blind readers
STYLE = {
    "font.size": 8,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "akorn_jax",  # the same chart is the same file
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
SIZE = (3.3, 2.1)  # inches: 317 pixels wide


def histogram(values: np.ndarray, label: str, mean: float) -> str:
    """How a score is distributed over scenes; a line at its mean."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        values = values[~np.isnan(values)]
        low = min(0.0, float(np.floor(10 * values.min()) / 10)) if len(values) else 0.0
        axes.hist(values, bins=np.arange(low, 1.0001, 0.05), color=BLUE, alpha=0.75)
        axes.axvline(mean, color=ORANGE, linewidth=1.5)
        axes.annotate(
            f"mean {mean:.3f}", (mean, 1.0), xycoords=("data", "axes fraction"), color=ORANGE,
            xytext=(-3 if mean > 0.5 else 3, 1), textcoords="offset points",
            ha="right" if mean > 0.5 else "left", va="bottom",
        )  # fmt: skip
        axes.set_xlabel(label)
        axes.set_ylabel("scenes")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        return _svg(figure)


def by_count(counts: np.ndarray, values: np.ndarray, label: str) -> str:
    """A score against the number of objects: all scenes, and means with standard errors."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        known = ~np.isnan(values)
        counts, values = counts[known], values[known]
        jitter = np.random.default_rng(0).uniform(-0.22, 0.22, len(counts))
        axes.plot(counts + jitter, values, ".", color=GRAY, markersize=2.5, alpha=0.6)
        groups = {int(n): values[counts == n] for n in np.unique(counts)}
        means = [v.mean() for v in groups.values()]
        errors = [v.std(ddof=1) / len(v) ** 0.5 if len(v) > 1 else 0.0 for v in groups.values()]
        axes.errorbar(
            list(groups),
            means,
            errors,
            fmt="o-",
            color=BLUE,
            markersize=4,
            capsize=3,
            linewidth=1.5,
        )
        axes.set_xticks(list(groups))
        axes.set_xlabel("objects in the scene")
        axes.set_ylabel(label)
        return _svg(figure)


def bars(names: Sequence[str], values: Sequence[float], errors: Sequence[float], label: str) -> str:
    """A score of several methods, the first of which is the run; with standard errors."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(height=0.75 + 0.24 * len(names))
        rows = np.arange(len(names))[::-1]
        colors = [BLUE] + [GRAY] * (len(names) - 1)
        axes.barh(rows, values, xerr=errors, color=colors, height=0.66, error_kw={"linewidth": 1})
        axes.set_yticks(rows, names, color=INK)
        axes.set_xlim(min(0, *values), 1.14)
        axes.set_xticks(np.arange(0, 1.01, 0.25))
        axes.grid(visible=False, axis="y")
        for row, value, error in zip(rows, values, errors, strict=True):
            axes.annotate(
                f"{value:.2f}", (max(value, 0) + error, row), xytext=(3, 0), color=INK,
                textcoords="offset points", va="center", fontsize=7,
            )  # fmt: skip
        axes.set_xlabel(label)
        return _svg(figure)


def curve(steps: np.ndarray, values: np.ndarray, label: str) -> str:
    """A quantity over training."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        axes.plot(steps, values, color=BLUE, linewidth=1.3)
        axes.set_xlim(0, max(steps))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        return _svg(figure)


def _axes(height: float = SIZE[1]):
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return uri(buffer.getvalue(), "image/svg+xml")
