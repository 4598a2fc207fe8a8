"""The ClevrTex benchmark (arXiv 2111.10265): train on full, test on full, outd and camo; and CLEVR.

    python -m benchmarks.clevrtex --systems=all --seeds=3 --config.data.raw_dir=WHERE
    python -m benchmarks.clevrtex --systems=akorn,slot_attention --procedural
    python -m benchmarks.clevrtex --systems=akorn --procedural --scenes=400 --size=32 --steps=300

Every system is trained by its recipes, `configs/clevrtex_SYSTEM.py` and `configs/clevr_SYSTEM.py`
(where the latter follows another protocol, by the former on CLEVR as the benchmark reads it), each
in processes of its own (`launch.py`), which may be interrupted: run again, it resumes, and skips
what is done. The table has the paper's columns, mean ± standard
deviation over seeds: FG-ARI, mIoU and MSE by the benchmark's rules, on CLEVR after training there,
on the others after training on full. `--procedural` takes ClevrTex-like scenes, whose scores are
not comparable with published ones; `--scenes`, `--size` and `--steps` make all of it smaller.

Writes OUT/clevrtex.md and OUT/clevrtex.json.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from akorn_jax import evaluate, run_config
from akorn_jax.errors import UserError
from akorn_jax.runtime import progress, storage
from benchmarks import machine
from benchmarks.arena import processes
from configs import arena, protocols, published
from datasets.errors import DatasetError
from datasets.prepare import prepare

FULL, CLEVR = "clevrtex", "clevr"  # what is trained on, as recipes begin
PROTOCOLS = {FULL: "clevrtex_full:clevrtex", CLEVR: "clevr10:clevrtex"}
TESTS = ("full", "outd", "camo")  # of the training on full
SYSTEMS = sorted(
    path.stem.removeprefix("clevrtex_")
    for path in (processes.ROOT / "configs").glob(f"{FULL}_*.py")
)
SCORES = {"fg_ari": "FG-ARI", "miou_clevrtex": "mIoU", "mse": "MSE"}


def main(arguments: list[str]) -> int:
    """Completes what is missing, writes the table; returns the exit code."""
    try:
        options, overrides = parse(arguments)
        if options.score is not None:
            score(options.score, options)
        else:
            run(options, overrides)
    except (UserError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, processes.Interrupted):
        print("error: interrupted; run the same command to resume.", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Completes what is missing, and writes the table after each run."""
    progress.setup_logging()
    with processes.stopping_on_sigterm():
        for seed in range(options.seeds):
            for system in options.systems:
                for trained_on in (FULL, CLEVR):
                    complete(system, trained_on, seed, options, overrides)
                write(options)
    write(options)
    progress.say(f"Table: {options.out / 'clevrtex.md'}")


def complete(
    system: str, trained_on: str, seed: int, options: argparse.Namespace, overrides: Sequence[str]
) -> None:
    """Trains a system and tests it wherever it should be tested, unless that is done."""
    config = recipe(system, trained_on, options, overrides)
    folder = options.out / trained_on / system
    workdir = folder / f"seed{seed}"

    def train_and_score() -> float:
        run_config.save(config, epath.Path(folder))
        path = folder / run_config.FILE
        trained = processes.launch(path, workdir, f"--config.seed={seed}", mode="train")
        command = ["-m", "benchmarks.clevrtex", f"--score={workdir.resolve()}"]
        command += [f"--scenes={options.scenes}"] if options.scenes else []
        scored = processes.call(command, workdir / "output.txt")
        return max(trained.megabytes, scored.megabytes)

    processes.once(workdir, train_and_score)


def recipe(
    system: str, trained_on: str, options: argparse.Namespace, overrides: Sequence[str]
) -> ConfigDict:
    """The config of a training: its own recipe, or that for ClevrTex on the benchmark's CLEVR."""
    variant = "procedural" if options.procedural else ""
    protocol = protocols.protocol(PROTOCOLS[trained_on], procedural=options.procedural)
    config = run_config.from_recipe(f"{_path(FULL, system)}:{variant}")
    if trained_on == CLEVR and _path(CLEVR, system).exists():
        own = run_config.from_recipe(f"{_path(CLEVR, system)}:{variant}")
        if all(own.data[name] == protocol[name] for name in ("crop", "test", "max_objects")):
            config = own
    if trained_on == CLEVR and config.data.name != protocol.name:
        config.data, config.published = protocol, published.published(PROTOCOLS[CLEVR])
    if options.size is not None:
        config.data.size = options.size
        config.model.update(arena.resized(config.model.to_dict(), options.size))
        if config.task.name == "contrastive":
            config.task.augmentation.size = options.size
    if options.scenes is not None:
        shorten(config.data, options.scenes)
    if options.steps is not None:
        arena.stretch(config, options.steps)
    return run_config.override(config, overrides)


def _path(trained_on: str, system: str) -> Path:
    return processes.ROOT / "configs" / f"{trained_on}_{system}.py"


def shorten(data: ConfigDict, scenes: int) -> None:
    """A protocol on the first scenes alone: a tenth tests, a tenth validates, the rest trains."""
    tenth = scenes // 10
    for part, stops in (
        ("test", (0, tenth)),
        ("validation", (tenth, 2 * tenth)),
        ("train", (2 * tenth, scenes)),
    ):
        if data[part] is not None:
            data[part] = stops
    data.max_records = tenth if data.train is None else scenes


def score(workdir: Path, options: argparse.Namespace) -> None:
    """Evaluates a run on all that it should be tested on; `metrics.json` and `metrics-*.json`."""
    config = run_config.from_workdir(epath.Path(workdir))
    config.eval.evaluators, config.eval.baselines = "segmentation", False
    others = []
    family = config.data.name.partition("/")[0]
    if family.startswith(FULL):
        for name in TESTS[1:]:
            other = protocols.protocol_of(f"{family}/{name}")
            other.size, other.raw_dir = config.data.size, config.data.raw_dir
            if options.scenes is not None:
                shorten(other, options.scenes)
            prepare(
                other.name,
                storage.plain(config.data_dir),
                raw_dir=other.raw_dir,
                max_records=other.max_records,
                seed=other.seed,
            )
            others.append(other)
    evaluate.evaluate(config, epath.Path(workdir), others)


def read(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each system: its scores on each test, seed by seed, and what failed."""
    rows = []
    for system in options.systems:
        tests: dict[str, list[dict[str, Any]]] = {name: [] for name in (CLEVR, *TESTS)}
        failed = []
        for trained_on in (CLEVR, FULL):
            for seed in range(options.seeds):
                workdir = options.out / trained_on / system / f"seed{seed}"
                outcome = processes.read_outcome(workdir)
                if outcome is None:
                    continue
                if outcome["failed"]:
                    failed.append(f"{trained_on}, seed {seed}: {outcome['failed']}")
                    continue
                size = run_config.from_workdir(epath.Path(workdir)).data.size
                for path in sorted(workdir.glob("metrics*.json")):
                    summary = json.loads(path.read_text())
                    if summary.get("mse") is not None:
                        summary["mse"] *= 3 * size**2  # the benchmark sums
                    last = summary["dataset"].partition("/")[2]
                    tests[last if trained_on == FULL else CLEVR].append(summary)
        rows.append({"system": system, "tests": tests, "failed": failed})
    return rows


def write(options: argparse.Namespace) -> None:
    """Writes the table."""
    rows = read(options)
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine.describe(), "rows": rows}
    text = json.dumps(content, indent=1) + "\n"
    storage.write(epath.Path(options.out / "clevrtex.json"), text.encode())
    storage.write(epath.Path(options.out / "clevrtex.md"), table(rows).encode())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The paper's table: a row for each system, three scores on each of four sets."""
    tests = {CLEVR: "CLEVR", **{name: name for name in TESTS}}
    head = [f"{title} {score}" for title in tests.values() for score in SCORES.values()]
    lines = [f"| | {' | '.join(head)} |", f"|---|{'---:|' * len(head)}"]
    for row in rows:
        cells = [cell(row["tests"][test], name) for test in tests for name in SCORES]
        lines.append(f"| {row['system']} | {' | '.join(cells)} |")
    failed = [f"Failed: {row['system']}, {reason}." for row in rows for reason in row["failed"]]
    note = (
        "FG-ARI and mIoU in %, MSE as the benchmark counts it, summed over pixels and colours of "
        "images in [0, 1]; mean ± standard deviation over seeds."
    )
    return "\n".join([*lines, "", note, *(f"\n{line}" for line in failed)]) + "\n"


def cell(summaries: Sequence[dict[str, Any]], name: str) -> str:
    """A score over seeds, as the paper has it."""
    values = [s[name] for s in summaries if s.get(name) is not None]
    if not values:
        return ""
    values = 100 * np.array(values) if name != "mse" else np.array(values)
    deviation = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{deviation}"


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options, and what is passed on to every recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--systems", default="all", help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="0 to N - 1")
    parser.add_argument("--procedural", action="store_true", help="on ClevrTex-like scenes")
    parser.add_argument("--scenes", type=int, metavar="N", help="of each set, instead of all")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="of images, instead of 128")
    parser.add_argument("--steps", type=int, metavar="N", help="of each training")
    parser.add_argument("--out", type=Path, default=Path("runs/clevrtex"), metavar="DIR")
    parser.add_argument("--score", type=Path, metavar="DIR", help="only score the run in DIR")
    options, overrides = parser.parse_known_args(arguments)
    for argument in overrides:
        if not re.match(r"--config\.[^=]+=", argument):
            raise UserError(f"{argument}: no such option; see --help.")
    options.systems = SYSTEMS if options.systems == "all" else options.systems.split(",")
    for name in options.systems:
        if name not in SYSTEMS:
            raise UserError(f"--systems={name}: is unknown; there are {', '.join(SYSTEMS)}.")
    for name, least in (("seeds", 1), ("scenes", 10), ("size", 1), ("steps", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name}={value}: give {least} or more.")
    return options, overrides


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
