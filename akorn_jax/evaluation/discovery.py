"""The evaluation of object discovery: a model's segments against the true ones and the controls."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import progress
from akorn_jax.data import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import baselines, segmentation, settings
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.evaluation.segmentation import Segments
from akorn_jax.metrics import clevrtex_metrics, has_object, segmentation_scores


def evaluate(models: Mapping[str, nnx.Module], examples: Examples, config: ConfigDict) -> Result:
    """Scores `models["trained"]`, beside the other models and, if asked for, the controls.

    Raises:
        UserError: the dataset has no masks to compare with, or the settings do not fit the model.
    """
    if examples.labels is None:
        raise UserError(
            f"{config.data.name}: has no masks to compare with; choose another dataset."
        )
    segments = {name: segment(model, examples, config) for name, model in models.items()}
    predictions = {name: s.labels for name, s in segments.items()}
    if config.eval.baselines:
        predictions |= controls(examples, config)
    scores = {name: compare(examples, labels) for name, labels in predictions.items()}
    for name, s in segments.items():
        if s.mse is not None:
            scores[name]["mse"] = s.mse
    groups = by_color(scores, examples)
    summaries = {name: summarize(s) for name, s in scores.items()}
    without = int(np.sum(~has_object(examples.labels, **_ids(examples))))
    notes = [f"{without} scenes without objects count FG-ARI 1."] if without else []
    if groups:
        notes.append("The last columns: FG-ARI where all colors differ and where one repeats.")
    return Result(
        summary={
            "num_without_objects": without,
            "up_tiling": config.eval.up_tiling,
            **summaries["trained"],
            "baselines": {name: s for name, s in summaries.items() if name != "trained"},
            "by_color": groups,
        },
        columns={
            "fg_ari": "FG-ARI",
            "mbo": "mBO",
            **({"mse": "MSE"} if "mse" in summaries["trained"] else {}),
            **{group: group for group in groups},
        },
        methods={name: _columns(s, groups, name) for name, s in summaries.items()},
        notes=tuple(notes),
        per_image=scores["trained"],
        labels=predictions["trained"],
    )


def segment(model: nnx.Module, examples: Examples, config: ConfigDict) -> Segments:
    """The model's segments, as `config.eval` wants them made."""
    with progress.bar(len(examples)) as bar:
        return segmentation.segment(
            model,
            examples.images,
            key=jax.random.key(config.eval.seed),
            num_clusters=config.data.num_clusters,
            batch_size=config.eval.batch_size,
            factor=config.eval.up_tiling,
            dims=config.eval.pca,
            num_workers=config.eval.num_workers or None,
            arguments=settings.call_arguments(model, config.eval),
            progress=bar.update,
        )


def compare(examples: Examples, labels: np.ndarray) -> Scores:
    """Scores `[N]` of label maps `[N, H, W]` by name.

    Where label 0 is all the background and every pixel counts, mIoU also as the ClevrTex evaluator
    has it (`miou_clevrtex`, over the objects).
    """
    ids = _ids(examples)
    scores = segmentation_scores(examples.labels, labels, **ids)
    if ids == {"background_ids": (0,), "ignore_ids": ()}:
        scores["miou_clevrtex"] = clevrtex_metrics(examples.labels, labels)["mIoU_fg"]
    return scores


def controls(examples: Examples, config: ConfigDict) -> dict[str, np.ndarray]:
    """Label maps `[N, H, W]` of what needs no model: what a score says is what it adds to these."""
    images, clusters = examples.images, config.data.num_clusters
    workers = {"num_workers": config.eval.num_workers or None}
    maps = {"position": baselines.position(images, clusters)}
    if "patch_size" in config.model:
        maps["token colors"] = baselines.token_colors(
            images, clusters, patch_size=config.model.patch_size, **workers
        )
    maps["pixel colors"] = baselines.pixel_colors(images, clusters, **workers)
    maps["color components"] = baselines.color_components(images, clusters, **workers)
    return maps


def by_color(scores: dict[str, Scores], examples: Examples) -> dict[str, Any]:
    """The scores of scenes whose objects all differ in colour, and of those where one repeats.

    Empty where the dataset does not say what colour its objects have.
    """
    attributes = examples.attributes
    if not {"color", "visibility"} <= attributes.keys():
        return {}
    repeated = baselines.repeats_color(
        attributes["color"], attributes["visibility"], first_object=len(examples.background_ids)
    )
    return {
        name: {
            "num_images": int(np.sum(rows)),
            **{
                method: summarize({score: values[rows] for score, values in s.items()})
                for method, s in scores.items()
            },
        }
        for name, rows in (("distinct", ~repeated), ("repeated", repeated))
    }


def _columns(
    summary: dict[str, float], groups: dict[str, Any], method: str
) -> dict[str, float | None]:
    """What the table shows; beyond the two main scores no standard errors, which would not fit."""
    shown = {name: value for name, value in summary.items() if name != "mse_se"}
    return shown | {name: group[method]["fg_ari"] for name, group in groups.items()}


def _ids(examples: Examples) -> dict[str, tuple[int, ...]]:
    return {"background_ids": examples.background_ids, "ignore_ids": examples.ignore_ids}
