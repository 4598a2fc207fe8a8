"""Classification: `ModelOutput.logits` are to name the class of an image."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax import losses
from akorn_jax.data import augment
from akorn_jax.errors import UserError
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks import base

Array = jax.Array


class Task(base.Task):
    """Cross-entropy, the mean over all places that have a class; `accuracy` is logged.

    Logits `[B, ..., n]` go with labels `[B, ...]`: one class per image, or one per cell of a grid.
    Which parameters are trained is `config.optimizer.groups`' matter.

    Args:
        labels: the field of the classes, integers from 0 on.
        augmentation: of the training images, see `augment.make`; empty leaves them as they are.
        frozen: call the model as in evaluation, without dropout and with running statistics that
            stay, since what its classifier reads is not trained.
        options: of the model's call, by name: a number or a schedule.
    """

    evaluators = ("classification",)

    def __init__(
        self,
        *,
        labels: str = "label",
        augmentation: Mapping[str, Any] | None = None,
        frozen: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(options=options)
        self.labels = labels
        self.augmentation = augment.make(augmentation) if augmentation else None
        self.frozen = frozen
        self.fields = ("image", labels)

    def init_model(self, model: nnx.Module, batch: Mapping[str, np.ndarray]) -> None:
        """Changes nothing; looks whether the model has the classes of the first batch.

        Raises:
            UserError: it has not.
        """
        ctx = base.Context(jnp.zeros((), jnp.int32), jax.random.key(0))
        graphdef, state = nnx.split(model)
        output = jax.eval_shape(
            lambda state, batch: self.apply(nnx.merge(graphdef, state), batch, ctx), state, batch
        )
        check_labels(batch[self.labels], output.logits, self.labels)

    def apply(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context, **options: Any
    ) -> ModelOutput:
        """As the base class; of images larger than a cropped view, the centre."""
        images = batch["image"]
        if self.augmentation is not None:
            images = self.augmentation.at_evaluation(images)
        return super().apply(model, {"image": images}, ctx, **options)

    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context
    ) -> tuple[Array, base.Aux]:
        """The loss of `batch["image"]`, uint8 `[B, H, W, 3]`, and the accuracy in [0, 1]."""
        view_key, model_key = jax.random.split(ctx.key)
        images, labels = batch["image"], batch[self.labels]
        if ctx.train and self.augmentation is not None:
            images = augment.views(self.augmentation, view_key, images, num_views=1)[:, 0]
        called = base.Context(ctx.step, model_key, ctx.state, ctx.train and not self.frozen)
        logits = self.apply(model, {"image": images}, called).logits
        # A label that is no class has no probability, which stops the training.
        loss = jnp.mean(losses.cross_entropy(logits, labels))
        accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
        return loss, base.Aux(metrics={"accuracy": accuracy})


def check_labels(labels: np.ndarray, logits: Any, name: str) -> None:
    """Refuses labels that are no classes of the model.

    Args:
        labels: integers `[B, ...]`.
        logits: `[B, ..., n]`, or their shape; None where the model has none.
        name: of the labels' field.

    Raises:
        UserError: in one line.
    """
    if logits is None:
        raise UserError("The model classifies nothing: it gives no logits; choose another task.")
    if logits.shape[:-1] != labels.shape:
        raise UserError(
            f"{name}: labels of shape {labels.shape} for logits of shape {logits.shape}; choose "
            "config.task.labels, or another model."
        )
    n = logits.shape[-1]
    wrong = labels[(labels < 0) | (labels >= n)]
    if wrong.size:
        raise UserError(
            f"{name}={wrong[0]}: the model has classes 0 to {n - 1}; set config.model.num_classes."
        )
