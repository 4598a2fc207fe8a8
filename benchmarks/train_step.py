"""Training steps: images a second, time, memory, FLOP/s, and the official code's speed.

    python -m benchmarks.train_step --output=train_step.json
    python -m benchmarks.train_step --baseline=DIR    # a clone of github.com/autonomousvision/akorn
    python -m benchmarks.train_step --baseline=DIR --images=4 --recipes configs/clevr_monet.py
    python -m benchmarks.train_step --recipes configs/clevrtex_akorn.py:l2 --config.dtype=bfloat16
    python -m benchmarks.train_step --recipes configs/tetrominoes_slot_attention.py --images=16
    python -m benchmarks.train_step --recipes configs/clevr_space.py --images=published

A step is what `launch.py` runs: random views, forward, loss, backward, optimizer and averages of
the weights. "Given views" is the same without the augmentation; that is what the official step is
compared with, whose augmentation runs in other processes. Which code is official depends on the
recipe's system: `benchmarks/official/NAME.py`, of the clones that `--baseline` names. PyTorch runs
eagerly, with channels_last and with torch.compile, and the fastest is quoted. Everything takes
turns, round after round, in one process, so that other load on the machine hits all; rates are
medians over rounds, ratios medians of the rounds' ratios. FLOPs are those of the products in
forward and backward, loops with all their trips, nothing recomputed (`benchmarks.flops`); their
share is of the stated peak or, on a CPU, of the speed of a large product that is timed in the same
rounds.

The JSON is written after each recipe, so that what is measured is kept if a later one is stopped.
A recipe that the device cannot run has its error there instead, and the exit status is 1. A way in
which the official code fails has its error under "failed".
"""

import argparse
import statistics
import sys
import time
from typing import Any

import jax

from benchmarks import command, machine, official, step

SMALL = (
    "configs/demo.py",
    "configs/demo.py:conv",
    "configs/demo.py:itrsa",
)
PAPER = (
    "configs/tetrominoes_akorn.py",
    "configs/tetrominoes_akorn.py:conv",
    "configs/tetrominoes_itrsa.py",
)


COLUMNS = ("recipe", "images/s", "step ms", "temp MB", "compile s", "GFLOP/s", "of peak")


def main(arguments: list[str] | None = None) -> int:
    """Measures the recipes and prints a table; returns 1 where the device could not run one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=[*SMALL, *PAPER], metavar="FILE[:VARIANT]")
    parser.add_argument(
        "--baseline", nargs="+", metavar="DIR", help="clones of official code; needs PyTorch"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=official.VARIANTS,
        default=official.VARIANTS,
        help="how the official code runs, where it can",
    )
    parser.add_argument(
        "--images",
        type=images,
        default=128,
        metavar="N|published",
        help="that the network sees in a step; published: as many as the recipe has",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=1, help="calls a round")
    parser.add_argument("--cpu_time", action="store_true", help=step.CPU_TIME)
    parser.add_argument("--output", help="a JSON file")
    options, overrides = parser.parse_known_args(arguments)
    baseline = official.Official(options.baseline) if options.baseline else None
    results = []
    print(" | ".join(COLUMNS))
    for recipe in options.recipes:
        try:
            results.append(measure(recipe, options, tuple(overrides), baseline))
            show(results[-1])
        except jax.errors.JaxRuntimeError as error:  # such as too little memory
            results.append({"recipe": recipe, "error": str(error)})
            print(f"{recipe} | {error}", file=sys.stderr)
        if options.output:
            settings = {"official": baseline.settings} if baseline else {}
            machine.write(
                options.output,
                {"options": vars(options), "overrides": overrides, **settings, "results": results},
            )
    return int(any("error" in result for result in results))


def images(text: str) -> int | None:
    """A number of images; None stands for the recipe's own."""
    return None if text == "published" else int(text)


def measure(
    recipe: str,
    options: argparse.Namespace,
    overrides: tuple[str, ...],
    baseline: official.Official | None,
) -> dict[str, Any]:
    """What the step of one recipe takes and needs."""
    config = step.recipe(recipe, options.images, overrides)
    training = step.Training(config)
    result = {"recipe": recipe, "system": config.model.name}
    result |= {"dtype": config.dtype, "parameters": training.parameters, **training.compile()}
    programs = {"step": training, "product": machine.timed_product(config.dtype)}
    if training.augmentation is not None:
        given = step.Training(config, augmented=False)
        given.compile()
        programs["given views"] = given
    runs_in = baseline.variants(config) if baseline else ()
    variants, failed = [], {}
    for variant in [name for name in runs_in if name in options.variants]:
        theirs = baseline.step(config, training.images, variant, training.parameters)
        try:
            theirs()
        except RuntimeError as error:  # such as what torch.compile cannot take
            failed[variant] = f"{type(error).__name__}: {error}"
            print(f"{recipe}, {variant} | {failed[variant]}", file=sys.stderr)
        else:
            programs[variant] = theirs
            variants.append(variant)
    clock = time.process_time if options.cpu_time else time.perf_counter
    seconds = step.in_turn(programs, options.rounds, options.repeats, clock=clock)

    calls = config.steps_per_call
    ours = statistics.median(seconds["step"]) / calls
    flops = training.images * step.model_flops(config)
    peak = machine.peak(config.dtype)
    timed = peak is None
    peak = peak or machine.PRODUCT_FLOPS / statistics.median(seconds["product"])
    result |= {
        "images": training.images,
        "seconds": seconds,
        "steps_per_call": calls,
        "step_seconds": ours,
        "images_per_second": training.images / ours,
        "model_flops_per_image": flops / training.images,
        "flops_per_second": flops / ours,
        "peak_flops_per_second": peak,
        "peak_is": "a product timed here" if timed else "the data sheet's",
        "share_of_peak": flops / ours / peak,
        "failed": failed,
    }
    if variants:
        best = min(variants, key=lambda name: statistics.median(seconds[name]))
        theirs = {name: [calls * value for value in seconds[name]] for name in variants}
        given = seconds.get("given views", seconds["step"])
        result["best_baseline"] = best
        result["ratio"] = step.median_ratio(theirs[best], given)
        result["ratio_with_augmentation"] = step.median_ratio(theirs[best], seconds["step"])
        result["ratios"] = {name: step.median_ratio(theirs[name], given) for name in variants}
    return result


def show(result: dict[str, Any]) -> None:
    """Prints a line of the table, and one of the comparison."""
    cells = (
        result["recipe"],
        f"{result['images_per_second']:,.0f}",
        f"{1e3 * result['step_seconds']:.1f}",
        f"{result['temp_megabytes']:.0f}",
        f"{result['compile_seconds']:.1f}",
        f"{result['flops_per_second'] / 1e9:,.0f}",
        f"{result['share_of_peak']:.0%}",
    )
    print(" | ".join(cells))
    if "ratio" in result:
        theirs = {name: statistics.median(result["seconds"][name]) for name in result["ratios"]}
        times = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in theirs.items())
        given = result["seconds"].get("given views", result["seconds"]["step"])
        print(f"  official: {times}; ours, given views, {1e3 * statistics.median(given):.0f} ms")
        ratios = {f"to {name}": ratio for name, ratio in result["ratios"].items()}
        if "given views" in result["seconds"]:
            ratios["to the fastest, with augmentation"] = result["ratio_with_augmentation"]
        for name, ratio in ratios.items():
            print("  ratio {}: {median:.2f} ({min:.2f} to {max:.2f})".format(name, **ratio))


if __name__ == "__main__":
    command.run(main)
