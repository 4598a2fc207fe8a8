"""What has been reproduced of what papers report, and what has not: writes docs/ledger.md.

    python -m benchmarks.ledger

A line for each method and protocol of configs/published.py: the published scores, whether official
tensors are reproduced, the command that fills the cell, and what it was found to give. A score
stands in the ledger only where it was measured on the original data.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from akorn_jax import run_config
from akorn_jax.errors import UserError
from akorn_jax.report import scores
from configs.data import PROTOCOLS
from configs.published import TESTED_TOO, published

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "ledger.md"


INTRODUCTION = """
# Reproduction ledger

Written by `python -m benchmarks.ledger` from `configs/published.py`; a test holds it up to date.

{lines} lines of published scores, {runnable} of which have a recipe with exactly their protocol. No
original file could be read where this was written, so no score on original data has been measured,
and no GPU was at hand, so neither have the hours. What stands here can be checked without them:
official tensors that the tests reproduce, and short runs on synthetic data, which are not
comparable with any published number.

Published scores are in %, mean ± standard deviation over seeds where the paper gives one.
"""


class Method(NamedTuple):
    """How the house calls a published method.

    Attributes:
        stem: recipes are `configs/<dataset>_<stem>.py`.
        variant: of the recipe.
        flags: of the evaluation.
        parity: tests that hold it to official tensors, below tests/parity; "" where there are none.
        page: short runs on synthetic data, below docs.
    """

    stem: str
    variant: str
    flags: str
    parity: str
    page: str


_UP_TILING = "--config.eval.up_tiling=4"
METHODS = {
    "AKOrN, attentive": Method("akorn", "", "", "akorn", "results.md"),
    "AKOrN, attentive, up-tiling 4": Method("akorn", "", _UP_TILING, "akorn", "results.md"),
    "AKOrN, convolutional": Method("akorn", "conv", "", "akorn", "results.md"),
    "AKOrN, one layer": Method("akorn", "", "", "akorn", "results.md"),
    "AKOrN, two layers": Method("akorn", "l2", "", "akorn", "results.md"),
    "AKOrN, two layers, up-tiling 4": Method("akorn", "l2", _UP_TILING, "akorn", "results.md"),
    "AKOrN, large, up-tiling 4": Method("akorn", "large", _UP_TILING, "akorn", "results.md"),
    "ItrSA": Method("itrsa", "", "", "akorn", "results.md"),
    "ItrSA, one block": Method("itrsa", "", "", "akorn", "results.md"),
    "ItrSA, two blocks": Method("itrsa", "l2", "", "akorn", "results.md"),
    "ItrConv": Method("itrconv", "", "", "", "results.md"),
    "ViT": Method("vit", "", "", "akorn", "results.md"),
    "Slot Attention": Method(
        "slot_attention", "", "", "slot_attention", "results/slot_attention.md"
    ),
    **{
        title: Method(stem, "", "", stem, f"results/{stem}.md")
        for title, stem in {
            "MONet": "monet",
            "GENESIS-V2": "genesis_v2",
            "IODINE": "iodine",
            "Efficient MORL": "efficient_morl",
            "SPAIR": "spair",
            "GNM": "gnm",
            "DTI-Sprites": "dti_sprites",
        }.items()
    },
}
# The protocol whose recipe is another model than the rest of its method's.
_SET_PREDICTION = Method(
    "set_prediction", "tfds", "", "slot_attention", "results/slot_attention.md"
)


class Line(NamedTuple):
    """A method's published scores on one protocol.

    Attributes:
        protocol: key of configs/data.py.
        entry: of `configs.published.published`.
        method: how to run it.
        command: that trains and evaluates it; "" where no recipe has this protocol.
    """

    protocol: str
    entry: dict[str, Any]
    method: Method
    command: str


def lines() -> Iterator[Line]:
    """All of them, in the order of configs/published.py's protocols."""
    trained_on = {test: train for train, tests in TESTED_TOO.items() for test in tests}
    for protocol in PROTOCOLS:
        for entry in published(protocol):
            if entry["dataset"] != PROTOCOLS[protocol]["name"]:
                continue  # that of another protocol, which is tested too
            method = METHODS[entry["method"]]
            if "ap_inf" in entry:
                method = _SET_PREDICTION
            train = trained_on.get(protocol, protocol)
            yield Line(protocol, entry, method, command(train, entry["dataset"], method))


def command(protocol: str, dataset: str, method: Method) -> str:
    """The command line of a recipe of a protocol; "" where there is none."""
    own = {name: _listed(value) for name, value in PROTOCOLS[protocol].items()}
    for path in sorted((ROOT / "configs").glob(f"*_{method.stem}.py")):
        recipe = f"configs/{path.name}" + (f":{method.variant}" if method.variant else "")
        try:
            data = run_config.to_dict(run_config.from_recipe(str(ROOT / recipe)))["data"]
        except UserError:  # a variant that this dataset's recipe does not have
            continue
        if all(data[name] == value for name, value in own.items()):
            others = "" if dataset == own["name"] else f" --config.eval.datasets={dataset}"
            flags = f" {method.flags}" if method.flags else ""
            return f"python launch.py --config={recipe}{flags}{others}"
    return ""


def _listed(value: Any) -> Any:
    """A value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def render() -> str:
    """The page."""
    found = list(lines())
    runnable = sum(bool(line.command) for line in found)
    parts = [INTRODUCTION.format(lines=len(found), runnable=runnable).strip()]
    for protocol in dict.fromkeys(line.protocol for line in found):
        rows = [line for line in found if line.protocol == protocol]
        parts += ["", f"## {rows[0].entry['dataset']}, protocol `{protocol}`"]
        for source in dict.fromkeys(line.entry["source"] for line in rows):
            group = [line for line in rows if line.entry["source"] == source]
            parts += ["", f"Published in {source}.", "", *_table(group)]
    return "\n".join(parts) + "\n"


def _table(rows: list[Line]) -> list[str]:
    names = [name for name in rows[0].entry if name not in ("method", "source", "dataset")]
    head = ["method", *map(scores.title, names), "official tensors", "original data", "GPU hours"]
    head += ["synthetic data", "command"]
    table = [_row(head), _row(["---"] * len(head))]
    for line in rows:
        method = line.method
        parity = f"[reproduced](../tests/parity/test_{method.parity}.py)"
        table.append(
            _row(
                [
                    line.entry["method"],
                    *(_score(*line.entry[name]) for name in names),
                    parity if method.parity else "there are none",
                    "not measured",
                    "not measured",
                    f"[short runs]({method.page})",
                    f"`{line.command}`" if line.command else "no recipe",
                ]
            )
        )
    return table


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _score(mean: float, deviation: float | None) -> str:
    error = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:.1f}{error}"


def main() -> None:
    """Writes the page."""
    FILE.write_text(render())
    print(FILE)


if __name__ == "__main__":
    main()
