"""Many devices: what each does, holds and gives when a batch is split over 1, 2, 4 and 8 of them.

    python -m benchmarks.devices --output=devices.json

On a CPU the devices are forced ones that share the same cores: this shows that the work is split
and that the training stays the same, not that it gets faster. Reported for each number of devices:
the losses of the first steps, and the FLOPs and temporary memory of one device's program by XLA's
own count (which takes a loop's body once, the same for all).
"""

import os
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax

from benchmarks import command, machine, step

COUNTS = (1, 2, 4, 8)
STEPS = 3


def main(arguments: list[str] | None = None) -> None:
    """Trains a few steps on each number of devices and prints a table."""
    options, overrides = step.parser(__doc__).parse_known_args(arguments)
    results = []
    print("devices | MFLOP a device | MB a device | losses")
    for count in COUNTS:
        if count > jax.device_count():
            break
        results.append(measure(options.recipe, options.images, count, tuple(overrides)))
        show(results[-1])
    if options.output:
        machine.write(options.output, {"options": vars(options), "results": results})


def measure(recipe: str, images: int, count: int, overrides: tuple[str, ...]) -> dict[str, Any]:
    """What one of `count` devices does in a step, and the losses of the first steps."""
    config = step.recipe(recipe, images, overrides)
    training = step.Training(config, devices=jax.devices()[:count])
    needs = training.compile()
    return {
        "devices": count,
        "flops": training.update.cost_analysis()["flops"],
        "temp_megabytes": needs["temp_megabytes"],
        "losses": [float(training()["loss"][0]) for _ in range(STEPS)],
    }


def show(result: dict[str, Any]) -> None:
    """Prints a line of the table."""
    losses = ", ".join(f"{loss:.6f}" for loss in result["losses"])
    print(
        f"{result['devices']} | {result['flops'] / 1e6:,.1f} | {result['temp_megabytes']:,.1f} | "
        f"{losses}"
    )


if __name__ == "__main__":
    command.run(main)
