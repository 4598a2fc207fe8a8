"""Set prediction: slots name the objects of a CLEVR scene in any order (arXiv 2006.15055)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax import losses, properties

Array = jax.Array

REDUCTIONS = ("sum", "mean")


class Task:
    """Huber's loss between targets and the predictions matched to them at least cost.

    Args:
        box: how positions are scaled, see `properties.BOXES`.
        reduction: over the matched pairs of an image: "sum" (Locatello et al.) or "mean" (Krimmel
            et al.); the mean over images follows.
    """

    fields = ("image", *properties.FIELDS)
    views = 1  # images a scene that a step sees
    evaluation = "set_prediction"

    def __init__(self, *, box: str = "scene", reduction: str = "sum") -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"{reduction=} is unknown; it is one of {', '.join(REDUCTIONS)}.")
        if box not in properties.BOXES:
            raise ValueError(f"{box=} is unknown; it is one of {', '.join(properties.BOXES)}.")
        self.box = box
        self.reduction = reduction

    def loss(
        self, model: nnx.Module, batch: dict[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of `batch["image"]`, uint8 `[B, H, W, 3]`, and of a matched pair on average."""
        images = batch["image"].astype(jnp.float32) / 255
        targets = self.targets(batch)
        pred = model(images, key=key, train=True).logits
        cost = losses.pairwise_huber(pred, targets)
        # Of fewer slots than the data have room for, none is spent on padding before all objects.
        padding = targets[..., -1] == 0 if pred.shape[1] < targets.shape[1] else None
        pairs = losses.least_cost_pairs(cost, last=padding)
        loss = pairs.sum(axis=-1) if self.reduction == "sum" else pairs.mean(axis=-1)
        return loss.mean(), {"huber": pairs.mean()}

    def targets(self, attributes: Mapping[str, Array]) -> Array:
        """Targets `[B, M, 19]`, from attributes `[B, 1 + M]` by the names of `fields`."""
        return properties.encode(attributes, self.box)
