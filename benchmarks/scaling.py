"""What a training step is made of, and how its cost grows; draws docs/figures/performance.png.

    python -m benchmarks.scaling --output=scaling.json --figure=docs/figures/performance.png
    python -m benchmarks.scaling --draw=scaling.json --figure=docs/figures/performance.png

The parts are programs of their own, timed in turn: the views, the loss, the loss with its gradient,
the whole step on given views. Backward and update are differences. Along T, tokens and channels the
recipe's own step is timed with one field changed, on a quarter of the images; Slot Attention, which
convolves whole images, has an eighth of them. What devices do is `benchmarks.devices`, in a process
with eight forced ones.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from akorn_jax.report.charts import BLUE, GRAY, MUTED, ORANGE, STYLE
from benchmarks import command, machine, step

RECIPES = {
    "AKOrN attn": "configs/tetrominoes_akorn.py",
    "AKOrN conv": "configs/tetrominoes_akorn.py:conv",
    "ItrSA": "configs/tetrominoes_itrsa.py",
    "Slot Attention": "configs/tetrominoes_slot_attention.py",
}
SHARE = {"Slot Attention": 8}  # an image takes a CPU so much longer: one of so many
GROWING = ("AKOrN attn", "AKOrN conv")
# What is changed, with how it is called and the values; images and views stay of one size.
AXES = {
    "T": ("T, Kuramoto steps", [("model.num_steps", t) for t in (2, 4, 8, 16)]),
    "tokens": ("tokens", [("model.image_size", s) for s in (16, 32, 48, 64)]),
    "channels": ("C, channels", [("model.channels", c) for c in (32, 64, 128, 256)]),
}
PARTS = ("augmentation", "forward", "backward", "update")


def main(arguments: list[str] | None = None) -> None:
    """Measures, or reads what was measured, and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128, help="that the network sees in a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="a JSON file")
    parser.add_argument("--figure", help="a PNG or SVG file")
    parser.add_argument("--draw", help="draw what this JSON file holds instead of measuring")
    options, overrides = parser.parse_known_args(arguments)
    if options.draw:
        result = json.loads(Path(options.draw).read_text())
    else:
        result = {
            "images": options.images,
            "parts": {
                name: parts(
                    recipe, options.images // SHARE.get(name, 1), options.rounds, tuple(overrides)
                )
                for name, recipe in RECIPES.items()
            },
            "growth": {a: growth(a, options, tuple(overrides)) for a in AXES},
            "devices": devices(options.images, overrides),
        }
        if options.output:
            machine.write(options.output, {"overrides": overrides, **result})
    if options.figure:
        draw(result, options.figure)


def parts(recipe: str, images: int, rounds: int, overrides: tuple[str, ...]) -> dict[str, float]:
    """Milliseconds an image of each part of a step, and of the whole; medians over rounds."""
    config = step.recipe(recipe, images, overrides)
    whole, given = step.Training(config), step.Training(config, augmented=False)
    whole.compile()
    given.compile()
    programs = {"whole": whole, "given": given, **given.parts()}
    seconds = step.in_turn(programs, rounds)
    median = {part: 1e3 * statistics.median(values) / images for part, values in seconds.items()}
    result = {
        "augmentation": median.get("augmentation", 0.0),
        "forward": median["forward"],
        "backward": median["gradient"] - median["forward"],
        "update": median["given"] - median["gradient"],
        "whole": median["whole"],
    }
    listed = ", ".join(f"{part} {value:.2f}" for part, value in result.items())
    print(f"{recipe}, ms an image: {listed}", flush=True)
    return result


def growth(
    axis: str, options: argparse.Namespace, overrides: tuple[str, ...]
) -> dict[str, list[dict[str, float]]]:
    """Time and memory of a step along one axis, by recipe."""
    images = max(2, options.images // 4)
    result = {}
    for name in GROWING:
        points, trainings = [], {}
        for field, value in AXES[axis][1]:
            changed = [f"--config.{field}={value}"]
            if field == "model.image_size":
                changed.append(f"--config.task.augmentation.size={value}")
            config = step.recipe(RECIPES[name], images, (*overrides, *changed))
            training = step.Training(config, augmented=False)
            needs = training.compile()
            x = (value // config.model.patch_size) ** 2 if axis == "tokens" else value
            trainings[str(x)] = training
            points.append({"x": x, "temp_megabytes": needs["temp_megabytes"]})
        seconds = step.in_turn(trainings, options.rounds)
        for point in points:
            point["milliseconds"] = 1e3 * statistics.median(seconds[str(point["x"])]) / images
        result[name] = points
        print(f"{axis}, {name}: " + ", ".join(f"{p['x']}: {p['milliseconds']:.2f} ms, "
              f"{p['temp_megabytes']:.0f} MB" for p in points), flush=True)  # fmt: skip
    return result


def devices(images: int, overrides: list[str]) -> list[dict[str, Any]]:
    """What `benchmarks.devices` measures, in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "devices.json"
        command = [sys.executable, "-m", "benchmarks.devices", f"--output={path}"]
        subprocess.run([*command, f"--images={images}", *overrides], check=True)
        return json.loads(path.read_text())["results"]


def draw(result: dict[str, Any], path: str) -> None:
    """The figure: parts, growth along T, tokens and channels, memory, devices."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.2), layout="constrained", dpi=130)
        axes = figure.subplots(2, 3)
        _draw_parts(axes[0, 0], result)
        for place, axis in zip((axes[0, 1], axes[0, 2], axes[1, 0]), AXES, strict=True):
            _draw_growth(place, axis, result["growth"][axis], "milliseconds", "ms an image")
            place.set_title(f"A step by {axis}", loc="left", fontsize=9)
        place = axes[1, 1]
        _draw_growth(place, "T", result["growth"]["T"], "temp_megabytes", "MB, temporary")
        place.set_title("Memory by T", loc="left", fontsize=9)
        _draw_devices(axes[1, 2], result["devices"])
        axes[0, 1].legend(frameon=False)
        figure.savefig(path)


def _draw_parts(axes: Axes, result: dict[str, Any]) -> None:
    recipes = result["parts"]
    names = [f"{name}\n{parts['whole']:.0f} ms an image" for name, parts in recipes.items()]
    # A difference that is smaller than its noise may come out negative.
    shown = [[max(0.0, parts[part]) for part in PARTS] for parts in recipes.values()]
    left = [0.0] * len(names)
    for i, color in enumerate((GRAY, BLUE, "#7fb8e6", ORANGE)):
        values = [100 * parts[i] / sum(parts) for parts in shown]
        axes.barh(names, values, left=left, color=color, label=PARTS[i])
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_ylim(len(names) + 0.6, -0.6)  # from the top, with room for the legend
    axes.set_xlabel("% of a step")
    axes.legend(frameon=False, ncols=2, loc="lower center")
    axes.set_title("What a step is made of", loc="left", fontsize=9)


def _draw_growth(axes: Axes, axis: str, curves: dict[str, list], field: str, label: str) -> None:
    for (name, points), color in zip(curves.items(), (BLUE, ORANGE), strict=True):
        x, y = [p["x"] for p in points], [p[field] for p in points]
        axes.plot(x, y, "o-", color=color, markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(x)
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_formatter(ScalarFormatter())
        scale.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_xlabel(AXES[axis][0])
    axes.set_ylabel(label)


def _draw_devices(axes: Axes, points: list[dict[str, Any]]) -> None:
    counts = [p["devices"] for p in points]
    for field, color, label in (
        ("flops", BLUE, "work of one"),
        ("temp_megabytes", ORANGE, "memory of one"),
    ):
        values = [p[field] / points[0][field] for p in points]
        axes.plot(counts, values, "o-", color=color, markersize=4, label=label)
    axes.plot(counts, [1 / c for c in counts], ":", color=MUTED, label="1 / devices")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(counts, [str(c) for c in counts])
    axes.set_yticks([1 / c for c in counts], [f"1/{c}" if c > 1 else "1" for c in counts])
    axes.set_xlabel("devices")
    axes.legend(frameon=False)
    axes.set_title("Devices share the batch", loc="left", fontsize=9)


if __name__ == "__main__":
    command.run(main)
