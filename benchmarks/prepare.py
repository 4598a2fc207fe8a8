"""How fast published files become prepared data.

    python -m benchmarks.prepare [--raw_dir=DIR] [--tetrominoes=20000] [--clevr=300] [--cores=1]
        [--output=prepare.json] [--baseline=CLONE --baseline_python=/path/to/python/with/tensorflow]

Without `--raw_dir` the files are made here in the published format: drawn Tetrominoes, and CLEVR
records of a noisy shaded ground with discs (0.1 MB each when compressed, as published). With it
the first records of the published files are used. Everything is pinned to so many cores. The rounds
take turns and the fastest of each counts: other load on the machine only makes them slower.

  gunzip      the program `gunzip -c`, decompressing alone
  baseline    with `--baseline`: `data/convert_tfrecord_to_np.py` of a clone of the official
              repository, TFRecord to compressed npz. The interpreter's start and the import of
              TensorFlow are left out; tracing the graph is part of it, as it is of each conversion
  read        `datasets.multi_object.read`: zlib-ng, checksums, one label map
  prepare     `datasets.prepare.prepare`: read, and written as TFDS ArrayRecord

Records per CPU second, all threads counted, are what one idle core does; records per second of
the wall clock are what it did here.
"""

import argparse
import dataclasses
import gzip
import itertools
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, machine
from datasets import multi_object, schemas
from datasets.prepare import prepare
from datasets.scenes import tetrominoes

_CONVERTER = "data/convert_tfrecord_to_np.py"
# Runs the converter in its interpreter; its last line says what the conversion took.
_RUN_CONVERTER = """
import json, os, resource, runpy, sys, time
script, dataset = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
import einops, PIL.Image, tensorflow

def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, time.monotonic()

start = spent()
sys.argv = [script, "--dataset_name", dataset]
runpy.run_path(script, run_name="__main__")
print(json.dumps([after - before for before, after in zip(start, spent())]))
"""


@dataclasses.dataclass(frozen=True)
class Seconds:
    """What a piece of work took."""

    cpu: float
    wall: float


def main(arguments: list[str] | None = None) -> None:
    """Measures both sets, prints the rates and writes the seconds."""
    options = parse(arguments)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[: options.cores])
    try:
        results = [
            measure("tetrominoes", made_tetrominoes, options.tetrominoes, options),
            measure("clevr_with_masks", made_clevr, options.clevr, options),
        ]
    finally:
        os.sched_setaffinity(0, cores)
    if options.output:
        machine.write(options.output, {"options": vars(options), "results": results})


def measure(
    name: str,
    made: Callable[[int], Iterator[dict[str, np.ndarray]]],
    count: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The seconds of every round on the first `count` records of a set."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / schemas.find(name).file  # where the converter looks for it
        path.parent.mkdir()
        records = made(count)
        if options.raw_dir:
            records = itertools.islice(multi_object.read(options.raw_dir / path.name, name), count)
        multi_object.write(path, name, records, compressed=False)
        path.write_bytes(gzip.compress(path.read_bytes(), 6))  # zlib's level, as published
        kinds = works(name, path, options.baseline, options.baseline_python)
        rounds = [{kind: work() for kind, work in kinds.items()} for _ in range(options.rounds)]
    report(name, count, rounds)
    seconds = [{kind: dataclasses.asdict(s) for kind, s in r.items()} for r in rounds]
    return {"set": name, "records": count, "rounds": seconds}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--raw_dir", type=Path, help="directory of the published files")
    parser.add_argument("--tetrominoes", type=int, default=20_000, help="records")
    parser.add_argument("--clevr", type=int, default=300, help="records")
    parser.add_argument("--cores", type=int, default=1, help="that everything is pinned to")
    parser.add_argument("--output", help="a JSON file")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument("--baseline", type=Path, help="a clone of the official repository")
    parser.add_argument(
        "--baseline_python", help="an interpreter with tensorflow, einops and pillow"
    )
    options = parser.parse_args(arguments)
    if bool(options.baseline) != bool(options.baseline_python):
        parser.error("--baseline and --baseline_python go together")
    if options.baseline and not (options.baseline / _CONVERTER).is_file():
        parser.error(f"--baseline={options.baseline}: has no {_CONVERTER}")
    return options


def works(
    name: str, path: Path, baseline: Path | None, python: str | None
) -> dict[str, Callable[[], Seconds]]:
    """What is compared; each reads the same file and says what it took."""

    def run_prepare() -> None:
        with tempfile.TemporaryDirectory() as data_dir:
            prepare(f"{name}/official", data_dir, raw_dir=path.parent)

    def run_read() -> None:
        for _ in multi_object.read(path, name):
            pass

    kinds = {
        "gunzip": lambda: child_seconds(["gunzip", "-c", str(path)]),
        "read": lambda: own_seconds(run_read),
        "prepare": lambda: own_seconds(run_prepare),
    }
    if baseline:
        script = str((baseline / _CONVERTER).absolute())
        kinds["baseline"] = lambda: converter_seconds(script, name, path.parents[1], python)
    return kinds


def report(name: str, count: int, rounds: list[dict[str, Seconds]]) -> None:
    """Records per second, and how many times the others' rate `prepare` has."""
    for clock in ("cpu", "wall"):
        rate = {
            kind: count / min(getattr(seconds[kind], clock) for seconds in rounds)
            for kind in rounds[0]
        }
        line = ", ".join(f"{kind} {value:,.0f}" for kind, value in rate.items())
        print(f"{name}, records per second ({clock}): {line}")
        others = [kind for kind in ("gunzip", "baseline") if kind in rate]
        ratios = (f"{rate['prepare'] / rate[kind]:.1f} times {kind}" for kind in others)
        print(f"  prepare is {', '.join(ratios)}", flush=True)


def own_seconds(work: Callable[[], object]) -> Seconds:
    cpu, wall = time.process_time(), time.monotonic()
    work()
    return Seconds(time.process_time() - cpu, time.monotonic() - wall)


def child_seconds(command: list[str]) -> Seconds:
    """Of a command whose output is thrown away."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    cpu, wall = used(), time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return Seconds(used() - cpu, time.monotonic() - wall)


def converter_seconds(script: str, dataset: str, directory: Path, python: str) -> Seconds:
    """Of the official converter in its own interpreter, on the file below `directory`."""
    done = subprocess.run(
        [python, "-c", _RUN_CONVERTER, script, dataset],
        cwd=directory,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Seconds(*json.loads(done.stdout.splitlines()[-1]))


def made_tetrominoes(count: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, count, 1000):
        drawn = tetrominoes.batch(0, np.arange(start, min(start + 1000, count)))
        for i in range(len(drawn["image"])):
            yield {name: values[i] for name, values in drawn.items()}


def made_clevr(count: int) -> Iterator[dict[str, np.ndarray]]:
    """Discs with a gradient on a noisy ground: what compresses like a CLEVR picture."""
    schema = schemas.find("clevr_with_masks")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    for _ in range(count):
        labels = np.zeros((240, 320), np.uint8)
        image = 110 + 0.1 * rows[..., None] + rng.normal(0, 1, (240, 320, 3))
        for entity in range(1, rng.integers(4, 12)):
            y, x, radius = rng.uniform(60, 200), rng.uniform(40, 280), rng.uniform(8, 30)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            labels[inside] = entity
            image[inside] = image[inside] * rng.uniform(0.2, 1.5, 3)
        record = {"image": image.clip(0, 255).astype(np.uint8), "segmentation": labels}
        for name, field in schema.attributes:
            record[name] = np.ones(field.shape, np.dtype(field.dtype))
        yield record


if __name__ == "__main__":
    command.run(main)
