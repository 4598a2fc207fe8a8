"""Every system of the house on the same scenes, with the same budget, on one page.

    python -m benchmarks.arena --systems=all --budget=10m --seeds=3 --out=runs/arena
    python -m benchmarks.arena --systems=akorn,monet --images=200000
    python -m benchmarks.arena --systems=none --out=runs/arena  # only write the page again

Each system's small recipe is put on the arena's scenes (configs/arena.py) and trained by
`launch.py` in a process of its own. A short training times its step; the recipe then gets as many
steps as fit into the budget, and its schedules are stretched to them. So the budget is that of
training steps: starting and compiling are not in it, evaluations during the training are, as far as
they slow it down. `--images` gives every system the same number of images instead.

The command may be interrupted at any time: run again, it resumes the training it was at, and skips
what is done. A run that fails stays in the table with its reason; remove its directory,
`OUT/SCENES/SYSTEM/seedN`, to try again. Further arguments, `--config.field=value`, are given to
every training. A second budget needs another `--out`.

Writes OUT/arena.html, OUT/arena.json and OUT/arena.md, after each run. Measured: docs/arena.md.
"""

import argparse
import re
import sys
from pathlib import Path

from akorn_jax.errors import UserError
from akorn_jax.runtime import progress
from benchmarks.arena import page, processes, runs
from configs import arena
from datasets.errors import DatasetError
from datasets.prepare import prepare

UNITS = {"s": 1, "m": 60, "h": 3600}


def main(arguments: list[str]) -> int:
    """Completes what is missing, writes the page; returns the exit code."""
    try:
        run(arguments)
    except (UserError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, processes.Interrupted):
        print("error: interrupted; run the same command to resume.", file=sys.stderr)
        return 130
    return 0


def run(arguments: list[str]) -> None:
    """Completes what is missing, and writes the page after each run."""
    options, overrides = parse(arguments)
    progress.setup_logging()
    budget = runs.Budget(options.budget) if options.images is None else None
    budget = budget or runs.Budget(images=options.images)
    budget = runs.remember(options.out, budget if options.systems else None)
    for scenes in options.scenes:
        data = arena.get_config(scenes).data
        folder = next((o.partition("=")[2] for o in overrides if "config.data_dir=" in o), "data")
        prepare(data.name, folder, max_records=data.max_records, seed=data.seed)
    with processes.stopping_on_sigterm():
        page.write(options.out, options.scenes, options.seeds, budget, overrides)
        for seed in range(options.seeds):
            for scenes in options.scenes:
                for system in options.systems:
                    entry = runs.Entry(options.out, scenes, system, seed)
                    if runs.complete(entry, budget, overrides):
                        page.write(options.out, options.scenes, options.seeds, budget, overrides)
    progress.say(f"Page: {options.out / page.FILE}")


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options, and what is passed on to launch.py."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--systems", default="all", help="comma-separated; all, or none")
    parser.add_argument("--scenes", default="textured,tetrominoes", help="comma-separated")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--budget", default="10m", metavar="TIME", help="e.g. 90s, 10m, 2h")
    limit.add_argument("--images", type=int, metavar="N", help="that each training may see")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="0 to N - 1")
    parser.add_argument("--out", type=Path, default=Path("runs/arena"), metavar="DIR")
    options, overrides = parser.parse_known_args(arguments)
    for argument in overrides:
        if not re.match(r"--config\.[^=]+=", argument):
            raise UserError(f"{argument}: no such option; see --help.")
        if argument.startswith("--config.seed="):
            raise UserError(f"{argument}: the arena sets the seeds; use --seeds.")
    everything = {"all": list(arena.SYSTEMS), "none": []}
    options.systems = everything.get(options.systems, options.systems.split(","))
    options.scenes = options.scenes.split(",")
    for kind, chosen, known in (
        ("systems", options.systems, arena.SYSTEMS),
        ("scenes", options.scenes, arena.SCENES),
    ):
        for name in chosen:
            if name not in known:
                raise UserError(f"--{kind}={name}: is unknown; there are {', '.join(known)}.")
    options.budget = seconds(options.budget)
    for name, least in (("seeds", 1), ("images", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name}={value}: give {least} or more.")
    return options, overrides


def seconds(budget: str) -> float:
    """Seconds of a time such as `90s`, `10m` or `1.5h`.

    Raises:
        UserError: it is none, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if match is None or float(match[1]) == 0:
        raise UserError(f"--budget={budget}: give a time, e.g. 90s, 10m or 2h.")
    return float(match[1]) * UNITS[match[2]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
