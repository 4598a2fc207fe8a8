"""How well a model reconstructs images: for data without masks, and beside other scores."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result, summarize
from akorn_jax.outputs import ModelOutput

Array = jax.Array

HEADINGS = {"mse": "MSE", "psnr": "PSNR, dB"}


class Evaluator(base.Evaluator):
    """Mean squared error of images in [0, 1], and the peak signal-to-noise ratio in decibels."""

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "mse" and "psnr", `[B]`, of the reconstruction clipped to [0, 1]."""
        if output.recon is None:
            raise UserError("The model reconstructs nothing; choose other config.eval.evaluators.")
        images = batch["image"].astype(jnp.float32) / 255
        mse = jnp.mean((jnp.clip(output.recon, 0, 1) - images) ** 2, axis=(1, 2, 3))  # [B]
        return {"mse": mse, "psnr": -10 * jnp.log10(jnp.maximum(mse, 1e-10))}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Means over images of the trained and of the untrained model."""
        scores = {name: collect(k) for name, k in kept.items()}
        methods = {name: summarize(s) for name, s in scores.items()}
        others = {name: s for name, s in methods.items() if name != "trained"}
        return Result(
            summary={**methods["trained"], "baselines": others},
            columns=HEADINGS,
            methods=methods,
            per_image=scores["trained"],
        )
