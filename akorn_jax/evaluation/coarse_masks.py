"""Object discovery by masks on a grid of features, as Krimmel et al. score DINOSAUR.

Masks come from the decoder or from the attention of the slots. They are enlarged bilinearly and
compared pixel by pixel ("refined" in arXiv 2407.04170), or the label of a cell fills its pixels
("cells"). Beside them stands average linkage of the very features that the slots explain.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, clustering, segmentation, slot_health
from akorn_jax.evaluation.predict import collect
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.evaluation.workers import Workers
from akorn_jax.layers.resize import resize_masks
from akorn_jax.metrics import segmentation_scores
from akorn_jax.outputs import ModelOutput
from akorn_jax.runtime import progress

Array = jax.Array

# Label maps of the trained model, by what the table calls them: (part of the output, refined).
KINDS = {
    "trained": ("masks", True),
    "decoder, cells": ("masks", False),
    "attention": ("attention", True),
    "attention, cells": ("attention", False),
}
LINKAGE = "average linkage"  # of the features
HEADINGS = {"fg_ari": "FG-ARI", "mbo": "mBO", "ari": "ARI"}


class Evaluator(base.Evaluator):
    """FG-ARI, ARI, mBO and mIoU of the decoder's and the attention's masks.

    True segments are shrunk to the size that the encoder sees, where that is smaller, as Krimmel et
    al. do: 224 pixels of MOVi's 256.
    """

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "masks" and "attention" `[B, K, h, w]`, "features" of unit length, "feature_mse" `[B]`.

        Raises:
            UserError: the model is no DINOSAUR.
        """
        if output.masks is None or output.attention is None or output.features is None:
            raise UserError(
                "config.eval.evaluators=coarse_masks: scores slots that explain features, the "
                "model has none; choose others."
            )
        return {
            "masks": output.masks,
            "attention": output.attention,
            "features": segmentation.unit_vectors(output.features),
            "feature_mse": output.terms["feature_mse"],
            **slot_health.reduce(output),
        }

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores of all kinds of masks, beside the untrained slots and the baselines."""
        if examples.segmentation is None:
            raise UserError(
                "config.eval.evaluators=coarse_masks: the data have no masks; choose others."
            )
        size = self.size(examples.segmentation.shape[1:])
        maps, rest = self._trained(kept["trained"], size, len(examples))
        for name, outputs in kept.items():
            if name != "trained":
                labels = [label_maps(o["masks"], size, refine=True) for o in outputs]
                maps[name] = np.concatenate(labels)
        if self.config.eval.baselines:
            baselines = segmentation.baseline_maps(examples, self.config)
            maps |= {n: nearest_labels(labels, size) for n, labels in baselines.items()}
        true = nearest_labels(examples.segmentation, size)
        ids = {"background_ids": examples.background_ids, "ignore_ids": examples.ignore_ids}
        scores: dict[str, Scores] = {
            name: segmentation_scores(true, labels, **ids) for name, labels in maps.items()
        }
        scores["trained"]["feature_mse"] = rest.pop("feature_mse")
        methods = {name: summarize(found) for name, found in scores.items()}
        groups = segmentation.by_color(scores, examples)
        columns = {
            name: s | {group: found[name]["fg_ari"] for group, found in groups.items()}
            for name, s in methods.items()
        }
        shown = clustering.upsample_nearest(maps["trained"], examples.segmentation.shape[1:])
        health = slot_health.measure(shown, rest, examples)
        remarks = slot_health.remarks(health, examples)
        return Result(
            summary={
                **methods["trained"],
                "pixels": list(size),
                "masks": {name: methods[name] for name in KINDS if name != "trained"},
                "baselines": {name: s for name, s in methods.items() if name not in KINDS},
                "by_color": groups,
                **health,
                "remarks": remarks,
            },
            columns=HEADINGS | {group: group for group in groups},
            methods=columns,
            notes=(*((segmentation.BY_COLOR,) if groups else ()), *remarks),
            per_image=scores["trained"],
            labels=shown,
            logged=tuple(health),
        )

    def size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """(H, W) at which segments are compared, of true ones that are stored with (H, W)."""
        encoder = self.config.model.get("encoder") or {}
        seen = encoder.get("image_size") or stored
        seen = (seen, seen) if isinstance(seen, int) else tuple(seen)
        return min(seen[0], stored[0]), min(seen[1], stored[1])

    def _trained(
        self, kept: Iterator[dict[str, Any]], size: tuple[int, int], total: int
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Label maps `[N, *size]` of `KINDS` and `LINKAGE`; the rest that is kept, `[N, ...]`.

        Worker processes cluster features while the device works on the next batch.
        """
        found: dict[str, list[np.ndarray]] = {name: [] for name in KINDS}
        rest = []

        def features() -> Iterator[np.ndarray]:
            for outputs in kept:
                names = ("feature_mse", *slot_health.KEPT)
                rest.append({n: outputs[n] for n in names if n in outputs})
                for name, (part, refine) in KINDS.items():
                    found[name].append(label_maps(outputs[part], size, refine=refine))
                yield from outputs["features"]

        settings = self.config.eval
        if not settings.baselines:
            for _ in features():
                pass
        else:
            with (
                Workers(settings.num_workers or None) as workers,
                progress.bar(total, unit="scene") as bar,
            ):
                results = clustering.iterate_cluster_maps(
                    features(), self.config.data.num_clusters, workers, dims=settings.pca
                )
                found[LINKAGE] = []
                for labels in results:
                    found[LINKAGE].append(clustering.upsample_nearest(labels, size)[None])
                    bar.update(len(found[LINKAGE]))
        maps = {name: np.concatenate(labels) for name, labels in found.items()}
        return maps, collect(iter(rest))


def label_maps(masks: Array, size: tuple[int, int], *, refine: bool) -> np.ndarray:
    """The largest of K masks `[B, K, h, w]` at every pixel, `[B, *size]` uint8.

    Args:
        masks: on a grid.
        size: (H, W).
        refine: enlarge the masks bilinearly first, instead of repeating the labels.
    """
    if refine:
        return np.asarray(jnp.argmax(resize_masks(masks, size), axis=1), np.uint8)
    labels = np.asarray(jnp.argmax(masks, axis=1), np.uint8)
    return clustering.upsample_nearest(labels, size)


def nearest_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label maps `[B, H, W]` at a smaller size: pixel i comes from round(i H / size).

    Raises:
        ValueError: the size is larger than that of the labels.
    """
    rows, columns = (nearest(old, new) for old, new in zip(labels.shape[1:], size, strict=True))
    return labels[:, rows[:, None], columns]


def nearest(old: int, new: int) -> np.ndarray:
    """Which of `old` pixels of a line `new` pixels come from, `[new]`; ties go to even ones.

    Raises:
        ValueError: there are more new pixels than old ones.
    """
    if new > old:
        raise ValueError(f"labels of {old} pixels cannot be shrunk to {new}; choose fewer.")
    return np.round(np.arange(new) * (old / new)).astype(int)
