"""What a run left in its directory."""

import dataclasses
import json
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax import run_config
from akorn_jax.errors import UserError
from akorn_jax.runtime import provenance

# What an evaluation may set, and writes down.
EVALUATION = ("split", "up_tiling", "options", "min_objects", "max_objects")

ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error)

Curve = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Run:
    """An evaluated run.

    Attributes:
        workdir: where it is.
        config: what it was made with, and how it was evaluated.
        summary: what `metrics.json` holds.
        elsewhere: what `metrics-*.json` hold, the scores on other datasets.
        scores: per-image scores `[N]` by name; NaN where an image has none.
        curves: what TensorBoard shows, by tag: steps `[P]` and values `[P]`.
        launches: see `akorn_jax.runtime.provenance`.
    """

    workdir: epath.Path
    config: ConfigDict
    summary: dict[str, Any]
    elsewhere: list[dict[str, Any]]
    scores: dict[str, np.ndarray]
    curves: dict[str, Curve]
    launches: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The directory's name."""
        return epath.Path(self.workdir).resolve().name

    def training_seconds(self) -> float | None:
        """Time spent on training steps, without compilation; None where it was not logged."""
        if "train/step_seconds" not in self.curves:
            return None
        steps, seconds = self.curves["train/step_seconds"]
        return float(np.sum(np.diff(steps, prepend=0) * seconds))


def read(workdir: epath.PathLike, config: ConfigDict | None = None) -> Run:
    """Reads a run that was evaluated.

    Args:
        workdir: of the run.
        config: of the run, where it is at hand; else that of the directory.

    Raises:
        UserError: the directory holds no evaluated run, or a file of it is damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    if config is None:
        config = run_config.from_workdir(workdir)
    path = workdir / "metrics.json"
    if not path.exists():
        raise UserError(f"{workdir} has no {path.name}; run --mode=evaluate --workdir={workdir}.")
    try:
        summary = _summary(path)
        others = sorted(p for p in workdir.iterdir() if p.match("metrics-*.json"))
        elsewhere = [_summary(p) for p in others]
        scores = _per_image(workdir / "metrics_per_image.npz", summary["num_images"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, *ZIP_DAMAGE) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{workdir}: scores cannot be read ({reason}); evaluate again.") from error
    return Run(
        workdir=workdir,
        config=_evaluated(config, summary),
        summary=summary,
        elsewhere=elsewhere,
        scores=scores,
        curves=curves(workdir),
        launches=provenance.read(workdir),
    )


def _summary(path: epath.Path) -> dict[str, Any]:
    summary = json.loads(path.read_text())
    for name, kind in (("step", int), ("num_images", int), ("dataset", str), ("split", str)):
        if not isinstance(summary, dict) or not isinstance(summary.get(name), kind):
            raise ValueError(f"{path.name} has no {name}")
    return summary


def _per_image(path: epath.Path, num_images: int) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file) as arrays:
        scores = {name: arrays[name] for name in arrays.files if name != "record"}
    for name, values in scores.items():
        if values.shape != (num_images,) or values.dtype.kind not in "fiub":
            raise ValueError(f"{path.name}: {name} is {values.dtype}{list(values.shape)}")
    return scores


def _evaluated(config: ConfigDict, summary: dict[str, Any]) -> ConfigDict:
    """The config with what was set for the evaluation alone."""
    config = config.copy_and_resolve_references()
    for name in EVALUATION:
        if name in summary:
            config.eval[name] = summary[name]
    return config


def curves(workdir: epath.Path) -> dict[str, Curve]:
    """TensorBoard's scalars, by tag."""
    with tempfile.TemporaryDirectory() as directory:  # the reader knows no gs://
        for path in (p for p in workdir.iterdir() if p.name.startswith("events.out.tfevents.")):
            (Path(directory) / path.name).write_bytes(path.read_bytes())
        events = EventAccumulator(directory, size_guidance={"scalars": 0}).Reload()
        return {
            tag: (
                np.array([point.step for point in events.Scalars(tag)]),
                np.array([point.value for point in events.Scalars(tag)]),
            )
            for tag in events.Tags()["scalars"]
        }
