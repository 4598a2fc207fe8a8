"""Set prediction: slots name the objects of a CLEVR scene in any order (arXiv 2006.15055)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax import losses, properties
from akorn_jax.evaluation import set_prediction

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
        pred = model(images, key=key, train=True).logits
        cost = losses.pairwise_huber(pred, properties.encode(batch, self.box))
        pairs = losses.least_cost_pairs(cost)
        loss = pairs.sum(axis=-1) if self.reduction == "sum" else pairs.mean(axis=-1)
        return loss.mean(), {"huber": pairs.mean()}

    def scores(
        self,
        model: nnx.Module,
        images: np.ndarray,
        attributes: dict[str, np.ndarray],
        *,
        batch_size: int,
        seed: int,
    ) -> dict[str, float]:
        """Average precision at each threshold; see `evaluation.set_prediction.scores`."""
        targets = np.asarray(properties.encode(attributes, self.box))
        return set_prediction.scores(model, images, targets, batch_size=batch_size, seed=seed)
