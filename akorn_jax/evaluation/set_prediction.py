"""How well predicted sets of objects agree with the true ones."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, segmentation
from akorn_jax.evaluation.result import Result, summarize
from akorn_jax.metrics import average_precision
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.base import Task

Array = jax.Array

# Names and distances, in units of the scene, which is 6 wide.
THRESHOLDS = {"ap_inf": np.inf, "ap_1": 1.0, "ap_0.5": 0.5, "ap_0.25": 0.25, "ap_0.125": 0.125}
HEADINGS = {
    "ap_inf": "AP any",
    **{name: f"AP {distance:g}" for name, distance in THRESHOLDS.items() if distance < np.inf},
}


class Evaluator(base.Evaluator):
    """Average precision; where the data have masks, the slots' attention as a segmentation too."""

    def __init__(self, config: ConfigDict, task: Task) -> None:
        super().__init__(config, task)
        if config.eval.up_tiling != 1:
            raise UserError(
                f"config.eval.up_tiling={config.eval.up_tiling}: sets are predicted from whole "
                "images; use 1."
            )

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "logits" `[B, K, 19]`, and what segmentation keeps of the masks."""
        if output.logits is None:
            raise UserError("The model predicts no sets; choose other config.eval.evaluators.")
        return {"logits": output.logits, **segmentation.segments(output, batch)}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores against the targets of the task."""
        targets = self.task.targets(examples.attributes)
        methods, masks = {}, {}
        for name, outputs in kept.items():
            outputs = list(outputs)
            pred = np.concatenate([output["logits"] for output in outputs])
            methods[name] = scores(pred, targets)
            if examples.segmentation is not None:
                labels = segmentation.label_maps(iter(outputs), examples, self.config).labels
                masks[name] = labels, segmentation.compare(examples, labels)
                methods[name] |= summarize(masks[name][1])
        labels, per_image = masks.get("trained", (None, {}))
        others = {name: found for name, found in methods.items() if name != "trained"}
        return Result(
            summary={**methods["trained"], "baselines": others},
            columns=HEADINGS | ({"fg_ari": "attn FG-ARI"} if masks else {}),
            methods=methods,
            per_image=per_image,
            labels=labels,
        )


def scores(pred: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Average precision in [0, 1] over all images together, by the names of `THRESHOLDS`.

    Args:
        pred: `[N, K, 19]`.
        targets: `[N, M, 19]` of `properties.encode`.
    """
    return {
        name: float(average_precision(pred, targets, threshold))
        for name, threshold in THRESHOLDS.items()
    }
