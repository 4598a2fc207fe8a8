"""Scenes a second that the two ways of loading bring to the devices, without training on them.

    python -m benchmarks.input --config=configs/demo.py --steps=200 --output=input.json

`resident` draws rows of what is in device memory; `stream` reads, crops and resizes from disk, by
threads and by processes. Each is timed over the same steps, after its first; the ways take turns,
round after round, so that other load on the machine hits all. A call waits for its batch to be on
the devices, which training does not: what is reported is the most that training can be fed with.
"""

import argparse
import json
import time

import jax
import numpy as np

from akorn_jax import run_config
from akorn_jax.data import batches
from akorn_jax.runtime import sharding
from akorn_jax.training import train_state
from benchmarks import command, machine
from datasets.prepare import prepare


def main(arguments: list[str] | None = None) -> None:
    """Prepares the recipe's data if need be, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="configs/demo.py", help="a recipe")
    parser.add_argument("--steps", type=int, default=100, help="that are timed, each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes of the last way")
    parser.add_argument("--output", help="a JSON file")
    options, overrides = parser.parse_known_args(arguments)
    config = run_config.override(run_config.from_recipe(options.config), overrides)
    data = config.data
    prepare(
        data.name,
        config.data_dir,
        raw_dir=data.raw_dir,
        max_records=data.max_records,
        seed=data.seed,
    )
    ways = {
        "resident": ("resident", 0),
        "stream, threads": ("stream", 0),
        f"stream, {options.workers} processes": ("stream", options.workers),
    }
    rates = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            rates[name].append(measure(config, *way, options.steps))
    result = {
        "config": options.config,
        "batch_size": config.batch_size,
        "scenes_per_second": {
            name: {"median": float(np.median(r)), "min": min(r), "max": max(r)}
            for name, r in rates.items()
        },
    }
    print(json.dumps(result, indent=2))
    if options.output:
        machine.write(options.output, result)


def measure(config: run_config.ConfigDict, loading: str, num_workers: int, steps: int) -> float:
    """Scenes a second over so many steps after the first."""
    config = config.copy_and_resolve_references()
    config.data.loading, config.data.num_workers = loading, num_workers
    config.num_steps = steps + 1
    mesh = sharding.make_mesh(config.mesh)
    task = train_state.build("tasks", config.task)
    take = jax.jit(
        lambda source, chosen: batches.gather_batch(source, jax.tree.map(lambda x: x[0], chosen))
    )
    with batches.make(config, task.fields, mesh) as loader:
        for step in range(steps + 1):
            batch = loader(step, 1)
            jax.block_until_ready(take(batch.source, batch.indices))
            if step == 0:
                started = time.perf_counter()
    return steps * config.batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    command.run(main)
