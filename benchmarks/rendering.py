"""How fast scenes are drawn here: images a second at 128x128 (CLEVR's crop) and at 240x320.

    python -m benchmarks.rendering --scenes=64 --output=rendering.json

Wall-clock time is what counts on an idle machine. On a shared one, CPU time says what a machine
with `--cores` cores would reach if it kept them all busy; both are reported. "drawn" is
the ray casting alone, "sampled and drawn" adds the scene law with its visibility test.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

from benchmarks import command, machine
from datasets.scenes import clevr, clevrtex_like

SIZES = {"128x128": (128, 128, clevr.CROP), "240x320": (240, 320, None)}
COLUMNS = (
    *("set", "size", "what", "images"),
    *("wall_ms", "images_per_s", "cpu_ms", "busy_images_per_s"),
)


def measure(work: Callable[[], object], images: int, repeats: int, cores: int) -> dict[str, float]:
    """Milliseconds an image and images a second of `work`: the fastest repetition, compiled."""
    work()
    wall, cpu = float("inf"), float("inf")
    for _ in range(repeats):
        before, start = os.times(), time.perf_counter()
        work()
        wall = min(wall, time.perf_counter() - start)
        after = os.times()
        cpu = min(cpu, after.user + after.system - before.user - before.system)
    return {
        "images": images,
        "wall_ms": 1e3 * wall / images,
        "images_per_s": images / wall,
        "cpu_ms": 1e3 * cpu / images,
        "busy_images_per_s": cores * images / cpu,
    }


def run(scenes: int, repeats: int, cores: int) -> list[dict[str, str | float]]:
    """One row for each set, size and kind of work."""
    rows = []
    for name, module in (("clevr", clevr), ("clevrtex_like", clevrtex_like)):
        sampled = [module.sample_scene(0, index) for index in range(scenes)]
        for size, (height, width, window) in SIZES.items():
            kinds = {
                "drawn": lambda m=module, s=sampled, h=height, w=width, v=window: m.render_batch(
                    s, h, w, window=v
                ),
                "sampled and drawn": lambda m=module, h=height, w=width, v=window: m.draw(
                    0, range(scenes), h, w, v
                ),
            }
            for what, work in kinds.items():
                row = {"set": name, "size": size, "what": what}
                rows.append(row | measure(work, scenes, repeats, cores))
                print(" | ".join(_cell(rows[-1][column]) for column in COLUMNS), flush=True)
    return rows


def _cell(value: str | float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", help="a JSON file")
    args = parser.parse_args(arguments)
    print(" | ".join(COLUMNS))
    rows = run(args.scenes, args.repeats, args.cores)
    if args.output:
        machine.write(args.output, {"options": vars(args), "rows": rows})


if __name__ == "__main__":
    command.run(main)
