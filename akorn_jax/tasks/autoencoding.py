"""Autoencoding: reconstruct the image, under the terms that the model's paper adds."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.layers.image_size import check_image_size
from akorn_jax.optimizer import schedules
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks import base, geco

Array = jax.Array
PyTree = Any

GECO = "geco"  # in the place of a weight or an option: the multiplier that GECO adapts


class Task(base.Task):
    """A weighted sum of terms: sum over n of weight_n(step) * mean over images of term_n.

    The terms are the model's (`ModelOutput.terms`) and "mse", the mean over pixels and channels of
    the squared error of the reconstruction, between images in [-1, 1] as Slot Attention has it.

    Args:
        weights: by term: a number, a schedule (`optimizer/schedules.py`) or "geco".
        options: of the model's call, by name: a number, a schedule or "geco".
        geco: fields of `geco.make`, and `term`: the term that is held at a goal.
        inputs: what is reconstructed: "image", or "features" of a frozen encoder that the data keep
            (`config.data.features`).
        flip: mirror each image with probability 1/2, as Krimmel et al. do.

    Raises:
        UserError: at construction, settings that contradict each other.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        geco: Mapping[str, Any] | None = None,
        inputs: str = "image",
        flip: bool = False,
    ) -> None:
        if inputs not in ("image", "features"):
            raise UserError(f"config.task.inputs={inputs!r} is unknown; use image or features.")
        if flip and inputs != "image":
            raise UserError("config.task.flip mirrors images, not features; set it to false.")
        self.inputs, self.fields = inputs, (inputs,)
        options, weights = dict(options or {}), dict(weights or {"mse": 1.0})
        self._geco_options = [name for name, spec in options.items() if spec == GECO]
        super().__init__(options={n: s for n, s in options.items() if n not in self._geco_options})
        self._weights = {
            name: spec if spec == GECO else schedules.make(spec, f"config.task.weights.{name}")
            for name, spec in weights.items()
        }
        self._moving = [name for name, spec in weights.items() if not isinstance(spec, int | float)]
        geco_fields = dict(geco or {})
        self._geco_term = geco_fields.pop("term", None)
        self._constraint = _constraint(geco_fields, [*weights.values(), *options.values()])
        if self._constraint is not None and self._geco_term not in weights:
            raise UserError(
                f"config.task.geco.term={self._geco_term!r}: is not in config.task.weights "
                f"({', '.join(weights)})."
            )
        self.flip = flip

    def check(self, model: nnx.Module, num_steps: int) -> None:
        """Refuses what the base class refuses, and warns of a goal that GECO cannot reach.

        Args:
            model: `least_terms` has by a term's name what no image's can be below, if it says so.
            num_steps: of the run.
        """
        super().check(model, num_steps)
        least = getattr(model, "least_terms", {}).get(self._geco_term)
        if least is not None and self._constraint.goal < least:
            logging.warning(
                "config.task.geco.goal=%g is below %g, the least %r of an image that the model can "
                "reach: the constraint never holds and the KL loses all weight; give a larger "
                "goal, or a smaller config.model.std.",
                self._constraint.goal,
                least,
                self._geco_term,
            )

    def init_state(self) -> PyTree:
        """GECO's state; `()` without."""
        return () if self._constraint is None else self._constraint.init()

    def options(self, ctx: base.Context) -> dict[str, Array]:
        """Those of the base class, and GECO's multiplier where the model takes it."""
        found = super().options(ctx)
        for name in self._geco_options:
            found[name] = self._constraint.weight(ctx.state, ctx.step)
        return found

    def loss(
        self, model: nnx.Module, batch: Mapping[str, Array], ctx: base.Context
    ) -> tuple[Array, base.Aux]:
        """The loss of a batch; its metrics are the terms, and the weights that are not constant.

        Raises:
            UserError: GECO's goal is that of a whole image of another size than the batch has; or
                see `terms`.
        """
        if self._constraint is not None and hasattr(model, "image_size"):
            check_image_size(batch[self.inputs], model.image_size)
        flip_key, model_key = jax.random.split(ctx.key)
        batch = {self.inputs: batch[self.inputs]}
        if self.flip:
            inputs = batch[self.inputs]
            flipped = jax.random.bernoulli(flip_key, 0.5, (len(inputs), 1, 1, 1))
            batch = {self.inputs: jnp.where(flipped, inputs[:, :, ::-1], inputs)}
        output = self.apply(model, batch, ctx.with_key(model_key))
        terms = self.terms(output, batch)
        weights = {
            name: self._constraint.weight(ctx.state, ctx.step)
            if schedule == GECO
            else schedule(ctx.step)
            for name, schedule in self._weights.items()
        }
        loss = sum(weights[name] * term for name, term in terms.items())
        metrics = {**terms, **{f"weight_{name}": weights[name] for name in self._moving}}
        metrics |= {f"option_{name}": value for name, value in self.options(ctx).items()}
        return loss, base.Aux(metrics=metrics, extra=self.extra(output, terms))

    def extra(self, output: ModelOutput, terms: Mapping[str, Array]) -> PyTree:
        """What `after_step` gets to know of a batch: the term that GECO holds at its goal."""
        del output
        return () if self._constraint is None else terms[self._geco_term]

    def terms(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Means over images of all terms that have a weight.

        Raises:
            UserError: a weight names no term, or a term has no weight.
        """
        found = {name: term.mean() for name, term in (output.terms or {}).items()}
        if "mse" in self._weights and "mse" not in found and output.recon is not None:
            images = batch[self.inputs].astype(jnp.float32) / 255
            found["mse"] = jnp.mean((2 * (output.recon - images)) ** 2)
        for name in self._weights.keys() - found.keys():
            raise UserError(
                f"config.task.weights.{name}: the model has no such term; it has "
                f"{', '.join(found) or 'none'}."
            )
        for name in found.keys() - self._weights.keys():
            raise UserError(
                f"config.task.weights.{name} is missing: the model has this term; give it a "
                "number, 0 to log it only."
            )
        return found

    def after_step(self, state: PyTree, aux: base.Aux, key: Array) -> PyTree:
        """Moves GECO's multiplier towards the goal."""
        if self._constraint is None:
            return state
        task = self._constraint.update(state.task, aux.extra, state.step)
        return dataclasses.replace(state, task=task)


def _constraint(fields: Mapping[str, Any], specs: Sequence[Any]) -> geco.Geco | None:
    used = GECO in specs
    if not fields:
        if used:
            raise UserError("config.task.geco is empty, but a weight or an option is 'geco'.")
        return None
    if not used:
        raise UserError(
            "config.task.geco is set, but no weight and no option is 'geco'; set one or leave it "
            "empty."
        )
    try:
        return geco.make(**fields)
    except (TypeError, ValueError) as error:
        raise UserError(f"config.task.geco: {error}") from error
