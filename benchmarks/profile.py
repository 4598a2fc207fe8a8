"""Where the time of a training step goes, by JAX's profiler: which pass, and which kind of work.

    python -m benchmarks.profile --recipe=configs/tetrominoes_akorn.py --images=128
        [--output=profile.json]

The step is that of `benchmarks.train_step`, given views. "again" is what the backward pass computes
a second time (`config.model.remat`), "update" all but the loss and its gradient. A kind is a
product, with how it was written, or the last operation of a fused program. Programs that run side
by side count with their full time each, and the profiler itself takes some: compare shares, not
sums.
"""

import collections
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import command, machine, step

_INSTRUCTION = re.compile(r"^ *(?:ROOT )?%?([\w.-]+) = (.*)$", re.MULTILINE)
_NAME = re.compile(r'op_name="([^"]*)"')
_OPCODE = re.compile(r"[\]})] ([a-z][\w-]*)\(")  # after the result's type
_CONTAINERS = ("while", "call", "conditional")  # their parts are timed themselves
_SMALLEST = 0.01  # of the time, that has a row


class Work(NamedTuple):
    """A pass of the step, and what it computes."""

    part: str
    kind: str


def main(arguments: list[str] | None = None) -> None:
    """Profiles one step of a recipe and prints its largest parts."""
    options, overrides = step.parser(__doc__).parse_known_args(arguments)
    result = measure(options.recipe, options.images, tuple(overrides))
    show(result)
    if options.output:
        machine.write(options.output, {"options": vars(options), "overrides": overrides, **result})


def measure(recipe: str, images: int, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Milliseconds of the step with the profiler on, and of every kind of work in it."""
    training = step.Training(step.recipe(recipe, images, overrides), augmented=False)
    training.compile()
    training()
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            start = time.perf_counter()
            training()
            seconds = time.perf_counter() - start
        (path,) = Path(directory).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    known = works(training.update.as_text())
    spent = collections.Counter()
    for operation, nanoseconds in spans(profile):
        if operation in known:
            spent[known[operation]] += nanoseconds / 1e6
    rows = [{"milliseconds": ms, **work._asdict()} for work, ms in spent.most_common()]
    return {"recipe": recipe, "images": images, "step_milliseconds": 1e3 * seconds, "work": rows}


def works(program: str) -> dict[str, Work]:
    """What each operation of a compiled program does, by its name in there."""
    result = {}
    for operation, rest in _INSTRUCTION.findall(program):
        opcode, name = _OPCODE.search(rest)[1], _NAME.search(rest)
        if opcode not in _CONTAINERS:
            result[operation] = _work(opcode, name[1] if name else "")
    return result


def _work(opcode: str, name: str) -> Work:
    """Of the path of transformations and functions that JAX gives an operation."""
    *path, kind = name.partition(";")[0].split("/")  # of merged ones, the first
    if opcode == "dot" or kind == "dot_general":
        einsum = next((part for part in reversed(path) if "->" in part), "")
        kind = f"product {einsum}".rstrip()
    elif kind in ("", "closed_call"):  # XLA's own
        kind = opcode
    if "rematted_computation" in path:
        part = "again"
    elif any(place.startswith("transpose(") for place in path):
        part = "backward"
    else:
        part = "forward" if any(place.startswith("jvp(") for place in path) else "update"
    return Work(part, kind)


def spans(profile: jax.profiler.ProfileData) -> Iterator[tuple[str, float]]:
    """Nanoseconds of every operation that ran, by its name in the compiled program.

    On a CPU an operation may end on another thread than it started on; an event says so whose
    consumer is the first one's producer.
    """
    for plane in profile.planes:
        events = [event for line in plane.lines for event in line.events]
        stats = [dict(event.stats) for event in events]
        ends = {
            s["_c"]: e.start_ns
            for e, s in zip(events, stats, strict=True)
            if e.name.startswith("end: ") and "_c" in s
        }
        for event, stat in zip(events, stats, strict=True):
            if "hlo_op" in stat:
                end = ends.get(stat.get("_p"), event.start_ns + event.duration_ns)
                yield stat["hlo_op"], end - event.start_ns


def show(result: dict[str, Any]) -> None:
    """Prints the rows that matter as a table."""
    rows = result["work"]
    whole = sum(row["milliseconds"] for row in rows)
    print(f"{result['recipe']}: {result['step_milliseconds']:.0f} ms a step with the profiler")
    print("ms | share | pass | kind")
    for row in rows:
        if row["milliseconds"] >= _SMALLEST * whole:
            share = f"{row['milliseconds'] / whole:.0%}"
            print(f"{row['milliseconds']:.0f} | {share} | {row['part']} | {row['kind']}")


if __name__ == "__main__":
    command.run(main)
