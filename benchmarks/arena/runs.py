"""Runs of the arena: trained under one budget, scored alike, done once, and read back."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from akorn_jax import evaluate, run_config
from akorn_jax.errors import UserError
from akorn_jax.report import run as reports
from akorn_jax.runtime import storage
from benchmarks.arena import processes
from benchmarks.arena.processes import Failure
from benchmarks.arena.score import EXTRAS
from configs import arena

EVALUATIONS = 8  # during a training, of `EVAL_SCENES` scenes each
EVAL_SCENES = 64
NEARLY = 0.9  # share of the final score that counts as having learned


@dataclasses.dataclass(frozen=True)
class Budget:
    """What each training may use: seconds of training steps, or images. One of them is None."""

    seconds: float | None = None
    images: int | None = None

    def __str__(self) -> str:
        return f"{self.images:,} images" if self.seconds is None else f"{self.seconds:g} s"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A system on a set of scenes with a seed, in a directory of its own below `out`."""

    out: Path
    scenes: str
    system: str
    seed: int

    @property
    def recipe(self) -> Path:
        """Directory of the recipe that all seeds share."""
        return self.out / self.scenes / self.system

    @property
    def workdir(self) -> Path:
        return self.recipe / f"seed{self.seed}"


def remember(out: Path, budget: Budget | None) -> Budget:
    """The budget of a directory, written there by the first who names one.

    Raises:
        UserError: its runs have another one, or nobody has named one.
    """
    path = out / "budget.json"
    if path.exists():
        before = Budget(**json.loads(path.read_text()))
        if budget not in (None, before):
            raise UserError(f"--out={out}: its runs have a budget of {before}; choose another.")
        return before
    if budget is None:
        raise UserError(f"--out={out}: holds no arena; name systems.")
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(epath.Path(path), json.dumps(dataclasses.asdict(budget)).encode())
    return budget


def complete(entry: Entry, budget: Budget, overrides: Sequence[str]) -> bool:
    """Trains and scores an entry, from where it was; one that has ended is left alone, and one
    whose system another process is at.

    A failure is written down. A system that explains another's features has that completed first.

    Returns:
        Whether there was anything to do.

    Raises:
        processes.Interrupted, KeyboardInterrupt: the same call resumes.
    """
    if processes.read_outcome(entry.workdir) is not None:
        return False
    own = [*overrides, f"--config.seed={entry.seed}"]
    features = arena.SYSTEMS[entry.system].features_of
    if features:
        source = dataclasses.replace(entry, system=features)
        complete(source, budget, overrides)
        outcome = processes.read_outcome(source.workdir)
        if outcome is None:  # another process is at it
            return False
        own.append(f"--config.init_from.path={source.workdir.resolve()}")

    def train_and_score() -> float:
        if features and outcome["failed"]:
            raise Failure(f"{features} of this seed failed, so that there are no features")
        recipe = make_recipe(entry, budget, overrides, own)
        trained = processes.launch(recipe, entry.workdir, *own, mode="train")
        scored = processes.call(
            ["-m", "benchmarks.arena.score", str(entry.workdir.resolve())],
            entry.workdir / "output.txt",
        )
        return max(trained.megabytes, scored.megabytes)

    return processes.once(entry.workdir, train_and_score)


def make_recipe(
    entry: Entry, budget: Budget, overrides: Sequence[str], of_trial: Sequence[str]
) -> Path:
    """The recipe's file, made once for all seeds: as many steps as the budget has room for.

    Args:
        entry: of any seed.
        budget: of a training.
        overrides: of the recipe.
        of_trial: of the short training that times a step.

    Raises:
        Failure: that training failed.
    """
    path = entry.recipe / run_config.FILE
    if path.exists():
        return path
    config = arena.get_config(f"{entry.system},{entry.scenes}")
    config = run_config.override(config, overrides)
    if budget.seconds is None:
        num_steps = budget.images // config.batch_size
    else:
        trial = entry.recipe / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        run_config.save(config, epath.Path(trial))
        seconds = processes.step_seconds(trial / run_config.FILE, trial / "run", of_trial)
        num_steps = round(budget.seconds / seconds)
        shutil.rmtree(trial)
    arena.stretch(config, max(num_steps, EVALUATIONS))
    config.eval_every = config.num_steps // EVALUATIONS
    config.eval_scenes = EVAL_SCENES
    config.log_every = max(1, config.num_steps // 40)
    config.checkpoint_every = config.eval_every
    config.keep_checkpoints = 1
    run_config.save(config, epath.Path(entry.recipe))
    return path


def read(entry: Entry) -> dict[str, Any] | None:
    """What a run came to, for `arena.json`; None where it has not ended.

    A failed one has `failed`, the reason; others "scores" and "untrained" (means over scenes), and
    what they took.
    """
    outcome = processes.read_outcome(entry.workdir)
    if outcome is None:
        return None
    if outcome["failed"]:
        return {"seed": entry.seed, "failed": outcome["failed"]}
    run = reports.read(epath.Path(entry.workdir))
    with np.load(entry.workdir / EXTRAS) as extras:
        parameters, untrained = int(extras["parameters"]), json.loads(str(extras["untrained"]))
    seconds = run.training_seconds()
    images = run.summary["step"] * run.config.batch_size
    return {
        "seed": entry.seed,
        "failed": "",
        "steps": run.summary["step"],
        "images": images,
        "parameters": parameters,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "seconds_to_nearly": seconds_to_nearly(run),
        "megabytes": outcome["megabytes"],
        "scores": {
            name: value for name, value in run.summary.items() if isinstance(value, float | None)
        },
        "untrained": untrained,
        "command": command(entry),
        "versions": run.launches[-1]["versions"] if run.launches else {},
    }


def seconds_to_nearly(run: reports.Run) -> float | None:
    """Training seconds until the FG-ARI of a periodic evaluation was `NEARLY` the last one's.

    None where there are no evaluations, or the last one's score is not positive.
    """
    if "eval/fg_ari" not in run.curves:
        return None
    scores = dict(zip(*(values.tolist() for values in run.curves["eval/fg_ari"]), strict=True))
    last = scores[max(scores)]
    if last <= 0:
        return None
    step = min(step for step, score in scores.items() if score >= NEARLY * last)
    return run.training_seconds() * step / run.summary["step"]


def command(entry: Entry) -> str:
    """What trains this entry again, without the arena."""
    recipe = entry.recipe / run_config.FILE
    options = [f"--config={recipe}", f"--config.seed={entry.seed}", "--workdir=DIR"]
    return shlex.join(["python", "launch.py", *options])


def pictures(entry: Entry, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels `[count, H, W]` and reconstructions `[count, H, W, 3]` of the first scenes, of a run
    that did not fail; reconstructions are None where the system makes none."""
    with np.load(entry.workdir / evaluate.PREDICTIONS) as kept:
        labels = kept["labels"][:count]
    with np.load(entry.workdir / EXTRAS) as extras:
        return labels, extras["recon"][:count] if "recon" in extras else None
