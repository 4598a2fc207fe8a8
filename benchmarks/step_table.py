"""One table of training steps from the JSON files of `benchmarks.train_step`.

    python -m benchmarks.step_table runs/bench/steps/*.json

A row is a recipe; files are read in the given order. Ratios are PyTorch's time over ours, on given
views: the median of the rounds' ratios and their range, of each way in which the official code ran,
"cannot" where its code does not, and "not compared" where `benchmarks.official` knows no code.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import command, official

HEADER = (
    *("system", "recipe", "type", "cores", "images", "parameters", "temporary, MB"),
    "compiled in, s",
    *("step, ms", "images/s"),
    *(f"ratio to {variant}" for variant in official.VARIANTS),
)


def main(arguments: list[str] | None = None) -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="that benchmarks.train_step wrote")
    print(table(parser.parse_args(arguments).files))


def table(files: list[Path]) -> str:
    """The table of all results in some files, and a line for each machine they were measured on."""
    written = [json.loads(file.read_text()) for file in files]
    rows = [HEADER, (*["---"] * 3, *["---:"] * (len(HEADER) - 3))]
    rows += [cells(result, run["machine"]) for run in written for result in run["results"]]
    machines = dict.fromkeys(_machine(run) for run in written)
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *machines])


def cells(result: dict[str, Any], machine: dict[str, Any]) -> tuple[str, ...]:
    """A row's; a recipe that the device could not run has its error for its numbers."""
    recipe = f"`{Path(result['recipe']).name}`"
    if "error" in result:
        return ("", recipe, result["error"].partition("\n")[0], *[""] * (len(HEADER) - 3))
    return (
        result["system"],
        recipe,
        result["dtype"],
        str(machine["cores"]),
        str(result["images"]),
        f"{result['parameters']:,}",
        f"{result['temp_megabytes']:,.0f}",
        f"{result['compile_seconds']:.1f}",
        f"{1e3 * result['step_seconds']:,.1f}",
        f"{result['images_per_second']:,.1f}",
        *(_ratio(result, variant) for variant in official.VARIANTS),
    )


def _ratio(result: dict[str, Any], variant: str) -> str:
    if variant in result.get("ratios", {}):
        return "{median:.2f} ({min:.2f} to {max:.2f})".format(**result["ratios"][variant])
    if result["system"] not in official.names():
        return "not compared"
    cannot = variant not in official.entry(result["system"]).VARIANTS
    return "cannot" if cannot or variant in result.get("failed", {}) else "not measured"


def _machine(run: dict[str, Any]) -> str:
    machine = run["machine"]
    torch = f", PyTorch {run['official']['torch']}" if "official" in run else ""
    where = f"{machine['devices']} x {machine['device']}, {machine['cores']} cores"
    return f"{where} of {machine['processor']}; jax {machine['jax']}{torch}"


if __name__ == "__main__":
    command.run(main)
