"""Object discovery: a model's segments against the true ones, beside the baselines.

Masks: the largest wins the pixel. Features are clustered by AKOrN's protocol (arXiv 2410.13821,
appendix): fresh oscillators, optional up-tiling, features of unit length, average linkage into a
fixed number of clusters, labels up-sampled.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, baselines, clustering, slot_health
from akorn_jax.evaluation.predict import collect, predict
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.evaluation.workers import Workers
from akorn_jax.layers.resize import resize_masks
from akorn_jax.metrics import clevrtex_metrics, has_object, segmentation_scores
from akorn_jax.outputs import ModelOutput
from akorn_jax.runtime import progress
from akorn_jax.tasks.base import Task

Array = jax.Array

BY_COLOR = "The last columns: FG-ARI where all colors differ and where one repeats."


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's segmentation of N images.

    Attributes:
        labels: `[N, H, W]` integers.
        mse: `[N]`, mean over pixels and channels of the squared error of the reconstruction, of
            images in [0, 1]; None where the model reconstructs nothing.
        slots: what `slot_health.reduce` kept, `[N, ...]` by name.
    """

    labels: np.ndarray
    mse: np.ndarray | None
    slots: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Evaluator(base.Evaluator):
    """FG-ARI, mBO, ARI, mIoU, the reconstruction's MSE, and the health of the slots."""

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "labels" of masks, or else "features" of unit length; "mse" of a reconstruction.

        Beside them what `slot_health` wants.
        """
        return {**segments(output, batch), **slot_health.reduce(output)}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores beside the baselines; without true masks only label maps."""
        predictions = {name: label_maps(k, examples, self.config) for name, k in kept.items()}
        if examples.segmentation is None:
            return unscored(predictions["trained"], examples)
        return scored(predictions, examples, self.config)


def segments(output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
    """See `Evaluator.reduce`.

    Raises:
        UserError: the model gives neither masks nor features.
    """
    found = {}
    images = batch.get("image")
    if output.recon is not None and images is not None and output.recon.shape == images.shape:
        errors = output.recon - images.astype(jnp.float32) / 255
        found["mse"] = jnp.mean(errors**2, axis=(1, 2, 3))  # [B]
    if output.masks is not None:
        return {**found, "labels": jnp.argmax(masks_at(output, batch), axis=1)}  # [B, H, W]
    if output.features is not None:
        return {**found, "features": unit_vectors(output.features)}
    raise UserError("The model gives neither masks nor features to segment; choose evaluators.")


def masks_at(output: ModelOutput, batch: Mapping[str, Array]) -> Array:
    """A model's masks `[B, K, H, W]`, at the size of the images where the batch has any."""
    images = batch.get("image")
    return output.masks if images is None else resize_masks(output.masks, images.shape[1:3])


def segment(
    model: nnx.Module, task: Task, examples: Examples, config: ConfigDict, *, step: int = 0
) -> np.ndarray:
    """A model's label maps `[N, H, W]`, as `config.eval` wants them made."""
    kept = predict(model, task, examples, config, step=step, reduce=segments)
    return label_maps(kept, examples, config).labels


def label_maps(
    kept: Iterator[dict[str, Any]], examples: Examples, config: ConfigDict
) -> Prediction:
    """Label maps from what `segments` kept; features are clustered by worker processes.

    Raises:
        UserError: the data have no images.
    """
    if examples.images is None and examples.segmentation is None:
        raise UserError(
            f"{config.data.name}: has no images to segment; choose other config.eval.evaluators."
        )
    size = (examples.images if examples.segmentation is None else examples.segmentation).shape[1:3]
    maps, rest = [], []

    def watched() -> Iterator[dict[str, np.ndarray]]:
        for output in kept:
            rest.append({n: output[n] for n in ("mse", *slot_health.KEPT) if n in output})
            yield output

    with (
        Workers(config.eval.num_workers or None) as workers,
        progress.bar(len(examples), unit="scene") as bar,
    ):
        for labels in iterate_label_maps(watched(), config, workers):
            maps.append(clustering.upsample_nearest(labels, size))
            bar.update(len(maps))
    found = collect(iter(rest))
    return Prediction(np.stack(maps), found.pop("mse", None), found)


def iterate_label_maps(
    kept: Iterator[dict[str, Any]], config: ConfigDict, workers: Workers
) -> Iterator[np.ndarray]:
    """Label maps `[h, w]`, image by image, at the resolution of what `segments` kept."""
    first = next(kept)
    outputs = itertools.chain([first], kept)
    if "labels" in first:
        return (labels for output in outputs for labels in output["labels"])
    features = (f for output in outputs for f in output["features"])
    return clustering.iterate_cluster_maps(
        features, config.data.num_clusters, workers, dims=config.eval.pca
    )


def scored(predictions: Mapping[str, Prediction], examples: Examples, config: ConfigDict) -> Result:
    """Scores of `predictions["trained"]`, of the others, and of the baselines if asked for."""
    labels = {name: p.labels for name, p in predictions.items()}
    if config.eval.baselines:
        labels |= baseline_maps(examples, config)
    scores = {name: compare(examples, found) for name, found in labels.items()}
    for name, prediction in predictions.items():
        if prediction.mse is not None:
            scores[name]["mse"] = prediction.mse
    groups = by_color(scores, examples)
    summaries = {name: summarize(s) for name, s in scores.items()}
    without = int(np.sum(~has_object(examples.segmentation, **_ids(examples))))
    notes = [f"{without} scenes without objects count FG-ARI 1."] if without else []
    if groups:
        notes.append(BY_COLOR)
    health = slot_health.measure(labels["trained"], predictions["trained"].slots, examples)
    remarks = slot_health.remarks(health, examples)
    return Result(
        summary={
            "num_without_objects": without,
            "up_tiling": config.eval.up_tiling,
            **summaries["trained"],
            "baselines": {name: s for name, s in summaries.items() if name != "trained"},
            "by_color": groups,
            **health,
            "remarks": remarks,
        },
        columns={
            "fg_ari": "FG-ARI",
            "mbo": "mBO",
            **({"mse": "MSE"} if "mse" in summaries["trained"] else {}),
            **{group: group for group in groups},
        },
        methods={name: _columns(s, groups, name) for name, s in summaries.items()},
        notes=(*notes, *remarks),
        per_image=scores["trained"],
        labels=predictions["trained"].labels,
        logged=tuple(health),
    )


def unscored(prediction: Prediction, examples: Examples) -> Result:
    """Label maps where there is no truth to compare with."""
    scores = {} if prediction.mse is None else {"mse": prediction.mse}
    summary = summarize(scores)
    health = slot_health.measure(prediction.labels, prediction.slots, examples)
    remarks = slot_health.remarks(health, examples)
    note = "The data have no masks, so segments are shown and not scored."
    return Result(
        summary={**summary, **health, "remarks": remarks},
        columns={"mse": "MSE"} if scores else {},
        methods={"trained": summary},
        notes=(note, *remarks),
        per_image=scores,
        labels=prediction.labels,
        logged=tuple(health),
    )


def compare(examples: Examples, labels: np.ndarray) -> Scores:
    """Scores `[N]` of label maps `[N, H, W]` by name.

    Where label 0 is all the background and every pixel counts, mIoU also as the ClevrTex evaluator
    has it (`miou_clevrtex`, over the objects).
    """
    ids = _ids(examples)
    scores = segmentation_scores(examples.segmentation, labels, **ids)
    if ids == {"background_ids": (0,), "ignore_ids": ()}:
        scores["miou_clevrtex"] = clevrtex_metrics(examples.segmentation, labels)["mIoU_fg"]
    return scores


def baseline_maps(examples: Examples, config: ConfigDict) -> dict[str, np.ndarray]:
    """Label maps `[N, H, W]` that need no model: a score means what it adds to theirs."""
    scenes = examples.images, config.data.num_clusters
    maps = {"position": baselines.position(*scenes)}
    with Workers(config.eval.num_workers or None) as workers:
        if "patch_size" in config.model:
            patches = {"patch_size": config.model.patch_size, "workers": workers}
            maps["token colors"] = baselines.token_colors(*scenes, **patches)
            maps["token textures"] = baselines.token_textures(*scenes, **patches)
        maps["pixel colors"] = baselines.pixel_colors(*scenes, workers=workers)
        maps["color components"] = baselines.color_components(*scenes, workers=workers)
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


def unit_vectors(features: Array) -> Array:
    """Features `[..., D]` of length 1, float32."""
    features = features.astype(jnp.float32)
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.maximum(norm, 1e-12)


def _columns(
    summary: dict[str, float], groups: dict[str, Any], method: str
) -> dict[str, float | None]:
    """What the table shows; beyond the two main scores no standard errors, which would not fit."""
    shown = {name: value for name, value in summary.items() if name != "mse_se"}
    return shown | {name: group[method].get("fg_ari") for name, group in groups.items()}


def _ids(examples: Examples) -> dict[str, tuple[int, ...]]:
    return {"background_ids": examples.background_ids, "ignore_ids": examples.ignore_ids}
