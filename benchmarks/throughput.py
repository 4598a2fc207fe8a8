"""Sustained training throughput, and what the device would allow.

    python -m benchmarks.throughput --output=throughput.json \\
        --config.dtype=bfloat16 --config.steps_per_call=10
    python -m benchmarks.throughput --recipes configs/demo.py --scenes=512 --interval=20  # a CPU

Each recipe is trained by `train.train`, as `launch.py` does it: resident scenes, random views made
on the device, the optimizer, averages of the weights, metrics. What counts is the throughput that
the training itself reports, over intervals of `--interval` steps after the first. The scenes are
drawn, and few: how many there are does not matter to a step.

The limit is the larger of two times: that of the products at the rate that the device sustains,
and that of the bytes that must pass its memory if every product and every group of elementwise
operations is one pass in bfloat16 and attention weights are never stored.
"""

import argparse
import statistics
import tempfile
from typing import Any

import jax
from etils import epath

from akorn_jax import train
from akorn_jax.report.run import curves
from benchmarks import command, machine, step
from datasets.prepare import prepare

RECIPES = (
    "configs/tetrominoes_akorn.py:procedural",
    "configs/tetrominoes_itrsa.py:procedural",
    "configs/tetrominoes_slot_attention.py:procedural",
    "configs/clevrtex_akorn.py:procedural",
    "configs/clevrtex_akorn.py:l2,procedural",
)
# FLOP/s of products in bfloat16 and bytes/s that a device sustains.
SUSTAINED = {"NVIDIA H200": (790e12, 4.3e12)}
# Bytes that a step moves for an image, by model and (tokens, channels, layers): the passes of the
# last paragraph above, forward and backward, counted by hand.
MEGABYTES = {
    ("akorn", "attn"): {(64, 128, 1): 8.0, (256, 128, 1): 31.9, (256, 256, 1): 63.9,
                        (256, 256, 2): 123.7, (256, 512, 2): 247.1},
    ("akorn", "conv"): {(64, 128, 1): 2.9, (256, 128, 1): 11.5, (256, 256, 1): 23.0},
    ("itrsa", "attn"): {(64, 128, 1): 8.0},
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Trains each recipe for a little and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), metavar="FILE[:VARIANT]")
    parser.add_argument("--images", type=int, help="that the network sees in a step")
    parser.add_argument("--scenes", type=int, default=4096, help="that are drawn")
    parser.add_argument("--interval", type=int, default=200, help="steps")
    parser.add_argument("--rounds", type=int, default=5, help="intervals that count")
    parser.add_argument("--data_dir", default="runs/bench/data", help="where scenes are prepared")
    parser.add_argument("--output", help="a JSON file")
    options, overrides = parser.parse_known_args(arguments)
    results = []
    print("recipe | images/s | least | most | limit | of the limit")
    for recipe in options.recipes:
        results.append(measure(recipe, options, tuple(overrides)))
        show(results[-1])
    if options.output:
        machine.write(
            options.output,
            {"options": vars(options), "overrides": overrides, "results": results},
        )


def measure(recipe: str, options: argparse.Namespace, overrides: tuple[str, ...]) -> dict[str, Any]:
    """The throughput of one recipe, interval by interval."""
    config = step.recipe(recipe, options.images, overrides)
    config.data_dir = options.data_dir
    config.data.max_records = options.scenes
    config.data.train = (0, options.scenes)
    config.log_every = options.interval
    config.num_steps = config.checkpoint_every = options.interval * (1 + options.rounds)
    prepare(
        config.data.name,
        config.data_dir,
        raw_dir=config.data.raw_dir,
        max_records=config.data.max_records,
        seed=config.data.seed,
    )
    with tempfile.TemporaryDirectory() as directory:
        workdir = epath.Path(directory)
        train.train(config, workdir)
        seen = curves(workdir)
    rates = [float(rate) for rate in seen["train/images_per_sec"][1][-options.rounds :]]
    peak_memory = seen.get("train/device_peak_gb")
    flops = step.model_flops(config)
    limits = limit(config, flops)
    return {
        "recipe": recipe,
        "batch_size": config.batch_size,
        "dtype": config.dtype,
        "steps_per_call": config.steps_per_call,
        "images_per_second": statistics.median(rates),
        "intervals": rates,
        "device_peak_gigabytes": peak_memory and float(peak_memory[1].max()),
        "model_flops_per_image": flops,
        "limits": limits,
        "share_of_limit": statistics.median(rates) / min(limits.values()),
    }


def limit(config: step.ConfigDict, flops: float) -> dict[str, float]:
    """Images a second that each resource allows, over all devices.

    On a device that is not in `SUSTAINED`, and for models that are not in `MEGABYTES`, it is the
    products alone: at the data sheet's peak, or at the speed of a large product that is timed.
    """
    devices = jax.device_count()
    sustained = SUSTAINED.get(jax.devices()[0].device_kind)
    if sustained is None or config.dtype != "bfloat16":
        return {"products": devices * machine.peak_or_timed(config.dtype) / flops}
    limits = {"products": devices * sustained[0] / flops}
    model = config.model
    kind = (model.name, model.get("connectivity", "attn"))
    if kind in MEGABYTES:
        size = ((model.image_size // model.patch_size) ** 2, model.channels, model.num_layers)
        megabytes = MEGABYTES[kind].get(size)
        if megabytes:
            limits["bytes"] = devices * sustained[1] / (1e6 * megabytes)
    return limits


def show(result: dict[str, Any]) -> None:
    """Prints a line of the table."""
    name = min(result["limits"], key=result["limits"].get)
    cells = (
        result["recipe"],
        f"{result['images_per_second']:,.0f}",
        f"{min(result['intervals']):,.0f}",
        f"{max(result['intervals']):,.0f}",
        f"{result['limits'][name]:,.0f} ({name})",
        f"{result['share_of_limit']:.0%}",
    )
    print(" | ".join(cells))


if __name__ == "__main__":
    command.run(main)
