"""Set prediction: slots name the objects of a CLEVR scene in any order (arXiv 2006.15055)."""

from collections.abc import Mapping

import jax
from flax import nnx

from akorn_jax import losses
from akorn_jax.data import properties
from akorn_jax.tasks import base

Array = jax.Array

REDUCTIONS = ("sum", "mean")


class Task(base.Task):
    """Huber's loss between targets and the predictions matched to them at least cost.

    Args:
        box: how positions are scaled, see `properties.BOXES`.
        reduction: over the matched pairs of an image: "sum" (Locatello et al.) or "mean" (Krimmel
            et al.); the mean over images follows.
    """

    fields = ("image", *properties.FIELDS)
    evaluators = ("set_prediction",)

    def __init__(self, *, box: str = "scene", reduction: str = "sum") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"{reduction=} is unknown; it is one of {', '.join(REDUCTIONS)}.")
        if box not in properties.BOXES:
            raise ValueError(f"{box=} is unknown; it is one of {', '.join(properties.BOXES)}.")
        self.box = box
        self.reduction = reduction

    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context
    ) -> tuple[Array, base.Aux]:
        """The loss of `batch["image"]`, uint8 `[B, H, W, 3]`, and the mean over matched pairs."""
        targets = self.targets(batch)
        pred = self.apply(model, batch, ctx).logits
        cost = losses.pairwise_huber(pred, targets)  # [B, K, M]
        # Where slots are fewer than the data have room for, objects are matched before padding.
        padding = targets[..., -1] == 0 if pred.shape[1] < targets.shape[1] else None
        pairs = losses.least_cost_pairs(cost, last=padding)
        loss = pairs.sum(axis=-1) if self.reduction == "sum" else pairs.mean(axis=-1)
        return loss.mean(), base.Aux(metrics={"huber": pairs.mean()})

    def targets(self, attributes: Mapping[str, Array]) -> Array:
        """Targets `[B, M, 19]`, from attributes `[B, 1 + M]` by the names of `fields`."""
        return properties.encode(attributes, self.box)
