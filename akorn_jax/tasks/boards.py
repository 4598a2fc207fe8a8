"""Completing boards: `ModelOutput.logits` are to name the digit of every cell."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax import losses
from akorn_jax.errors import UserError
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks import base

Array = jax.Array


class Task(base.Task):
    """Cross-entropy, the mean over all cells, also those that are given (arXiv 2410.13821).

    "puzzle" and "solution" are `[B, n, n]`, digits from 1 on, 0 for blanks; logits
    `[B, n, n, n]` are of the digits 1 to n.
    """

    inputs = "puzzle"
    fields = ("puzzle", "solution")
    evaluators = ("boards",)

    def init_model(self, model: nnx.Module, batch: Mapping[str, np.ndarray]) -> None:
        """Changes nothing; looks whether the model is for boards of this size.

        Raises:
            UserError: it is not.
        """
        n = batch["puzzle"].shape[1]
        if getattr(model, "size", None) != n:
            raise UserError(
                f"config.model.size={getattr(model, 'size', None)}: the boards have {n} rows; "
                "choose a model for them, or other config.data."
            )

    def apply(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context, **options: Any
    ) -> ModelOutput:
        """As the base class, with digits as integers."""
        return super().apply(model, {"puzzle": batch["puzzle"].astype(jnp.int32)}, ctx, **options)

    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context
    ) -> tuple[Array, base.Aux]:
        """The loss, and in [0, 1] the accuracies of blank cells and of whole boards."""
        logits = self.apply(model, batch, ctx).logits
        solution = batch["solution"].astype(jnp.int32)
        loss = jnp.mean(losses.cross_entropy(logits, solution - 1))
        right = jnp.argmax(logits, axis=-1) + 1 == solution
        blank = batch["puzzle"] == 0
        metrics = {
            "cell_accuracy": jnp.sum(right & blank) / jnp.maximum(jnp.sum(blank), 1),
            "board_accuracy": jnp.mean(jnp.all(right | ~blank, axis=(1, 2))),
        }
        return loss, base.Aux(metrics=metrics)
