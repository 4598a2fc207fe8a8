"""Boards step by step: which cells are given, right and wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.outputs import ModelOutput, readout_steps
from akorn_jax.report import scenes
from akorn_jax.report.run import Run

TITLE, ORDER = "Boards", 12
# Given, wrong, right: told apart by lightness too.
COLORS = np.array([(229, 231, 235), (204, 106, 17), (0, 68, 136)], np.uint8)


def applies(output: ModelOutput) -> bool:
    """Whether the model completes boards."""
    return "logits" in (output.trajectory or {})


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """A film per board, a frame per readout."""
    num_steps = run.config.eval.options.get("num_steps", run.config.model.num_steps)
    boards = []
    for index, output in outputs.items():
        puzzle, solution = (examples.attributes[name][index] for name in ("puzzle", "solution"))
        digits = np.argmax(output.trajectory["logits"][0], axis=-1) + 1  # [S, n, n]
        kinds = np.where(puzzle > 0, 0, 1 + (digits == solution))
        boards.append(
            {
                "index": index,
                "film": scenes.film(COLORS[kinds]),
                "blanks": int((puzzle == 0).sum()),
                "wrong": int((kinds[-1] == 1).sum()),
            }
        )
    return {
        "names": [f"step {step}" for step in readout_steps(num_steps)],
        "colors": scenes.css(COLORS),
        "boards": boards,
    }
