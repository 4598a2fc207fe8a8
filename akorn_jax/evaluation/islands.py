"""Islands of agreement (arXiv 2102.12627): neighbouring columns of one vector, level by level."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, baselines
from akorn_jax.evaluation.clustering import upsample_nearest
from akorn_jax.evaluation.result import Result, Scores, summarize
from akorn_jax.evaluation.workers import Workers
from akorn_jax.metrics import ari, fg_ari
from akorn_jax.outputs import ModelOutput

Array = jax.Array

AGREE = 0.9  # cosine above which two neighbours are of one island
NUM_PICTURES = 6
CONTROL = "another image's"  # islands, compared with the truth of this one


class Evaluator(base.Evaluator):
    """How much neighbours agree at each level, and whether islands are strokes, parts or wholes.

    Of each level l from 1: "agreement_l", the mean cosine of neighbouring columns; "islands_l", how
    many there are, connected by cosines above 0.9; and of each truth that the data have (label maps
    "segmentation", of the wholes, and "part_segmentation" and so on) "whole_fg_ari_l" and
    "whole_ari_l", the adjusted Rand index of the islands over the truth's foreground and over all
    pixels. Controls are the islands of another image, which tell what any islands of such sizes
    score, and connected regions of one colour.
    """

    trajectory = True

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "levels" `[B, h, w, L, D]`, the last, and the cosines of each column with its neighbour
        to the "right" `[B, h, w - 1, L]` and "below" `[B, h - 1, w, L]`."""
        del batch
        if "levels" not in (output.trajectory or {}):
            raise UserError("The model has no levels; choose other config.eval.evaluators.")
        levels = output.trajectory["levels"][0][-1].astype(jnp.float32)
        right, below = cosines(levels)
        return {"levels": levels.astype(jnp.float16), "right": right, "below": below}

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores per level of the trained and of the untrained model, and of the controls."""
        truths = _truths(examples)
        scores: dict[str, Scores] = {}
        for name, batches in kept.items():
            labels, agreement, levels = _gather(batches)
            scores[name] = _of_levels(labels, truths, agreement)
            if name == "trained":
                picture = draw(examples.images, levels)
                if truths:
                    scores[CONTROL] = _of_levels(np.roll(labels, 1, axis=0), truths, None)
        num_levels = labels.shape[1]
        if self.config.eval.baselines and truths and examples.images is not None:
            with Workers(self.config.eval.num_workers or None) as workers:
                regions = baselines.color_components(
                    examples.images, self.config.data.num_clusters, workers=workers
                )
            scores["color regions"] = _against(regions, truths, "")
        trained = scores["trained"]
        methods = {name: summarize(s) for name, s in scores.items()}
        return Result(
            summary={
                **methods["trained"],
                "baselines": {n: m for n, m in methods.items() if n != "trained"},
            },
            columns={
                "agreement": "agreement",
                "islands": "islands",
                **{f"{truth}_fg_ari": f"{truth} FG-ARI" for truth in truths},
            },
            methods=_rows(methods, num_levels),
            per_image=trained,
            pictures={"islands": picture},
            logged=tuple(trained),
        )


def cosines(levels: Array) -> tuple[Array, Array]:
    """Of vectors `[..., h, w, L, D]` the cosines with the column to the right
    `[..., h, w - 1, L]` and below `[..., h - 1, w, L]`."""
    norm = jnp.linalg.norm(levels, axis=-1, keepdims=True)
    u = levels / jnp.maximum(norm, 1e-12)
    right = jnp.sum(u[..., :, 1:, :, :] * u[..., :, :-1, :, :], axis=-1)
    below = jnp.sum(u[..., 1:, :, :, :] * u[..., :-1, :, :, :], axis=-1)
    return right, below


def islands(right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Connected columns, labelled from 0 in each map: `[B, L, h, w]`.

    Args:
        right: `[B, h, w - 1, L]`, cosines of `cosines`.
        below: `[B, h - 1, w, L]`.
    """
    right, below = np.moveaxis(right, -1, 1), np.moveaxis(below, -1, 1)
    shape = (*right.shape[:3], right.shape[3] + 1)  # [B, L, h, w]
    node = np.arange(np.prod(shape)).reshape(shape)
    starts = [node[..., :-1][right > AGREE], node[..., :-1, :][below > AGREE]]
    ends = [node[..., 1:][right > AGREE], node[..., 1:, :][below > AGREE]]
    starts, ends = np.concatenate(starts), np.concatenate(ends)
    graph = sparse.coo_array((np.ones(len(starts), bool), (starts, ends)), (node.size, node.size))
    _, labels = csgraph.connected_components(graph, directed=False)
    labels = labels.reshape(shape)
    return labels - labels.min(axis=(2, 3), keepdims=True)


def colors(levels: np.ndarray) -> np.ndarray:
    """Levels `[..., D]` as RGB uint8 `[..., 3]`: the first three principal components of all of
    them, each scaled to its 1st and 99th percentile, so that equal colours are equal vectors.

    The sign of a component is such that its largest weight is positive, so that pictures compare.
    """
    flat = levels.reshape(-1, levels.shape[-1]).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    parts = centred @ axes
    parts = np.pad(parts, ((0, 0), (0, 3 - parts.shape[1])))
    low, high = np.percentile(parts, (1, 99), axis=0)
    scaled = np.clip((parts - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.rint(255 * scaled).astype(np.uint8).reshape(*levels.shape[:-1], 3)


def draw(images: np.ndarray | None, levels: np.ndarray) -> bytes:
    """Images `[N, H, W, 3]` above their levels `[B, h, w, L, D]` as colours, as a PNG."""
    B, *_, L, _ = levels.shape
    pictures = np.moveaxis(colors(levels), 3, 0)  # [L, B, h, w, 3]
    size = (1.2 * B + 0.4, 1.2 * (L + 1))
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots(L + 1, B, squeeze=False)
    names = ["image", *(f"level {l}" for l in range(1, L + 1))]
    rows = [pictures[0][..., :0] if images is None else images[:B], *pictures]
    for name, row, places in zip(names, rows, axes, strict=True):
        for picture, place in zip(row, places, strict=True):
            if picture.size:
                place.imshow(picture, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
        places[0].set_ylabel(name)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()


def _truths(examples: Examples) -> dict[str, np.ndarray]:
    """Label maps `[N, H, W]` by what they are of."""
    found = {
        name.removesuffix("_segmentation"): maps
        for name, maps in examples.attributes.items()
        if name.endswith("_segmentation")
    }
    if examples.segmentation is not None:
        found["whole"] = examples.segmentation
    return found


def _gather(batches: Iterator[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Islands `[N, L, h, w]`, mean cosines `[N, L]`, and the levels of the first images."""
    labels, agreement, first = [], [], []
    for batch in batches:
        right, below = batch["right"], batch["below"]
        labels.append(islands(right, below))
        B, L = right.shape[0], right.shape[-1]
        both = np.concatenate([right.reshape(B, -1, L), below.reshape(B, -1, L)], axis=1)
        agreement.append(both.mean(axis=1))
        if sum(map(len, first)) < NUM_PICTURES:
            first.append(batch["levels"].astype(np.float32))
    levels = np.concatenate(first)[:NUM_PICTURES]
    return np.concatenate(labels), np.concatenate(agreement), levels


def _of_levels(
    labels: np.ndarray, truths: Mapping[str, np.ndarray], agreement: np.ndarray | None
) -> Scores:
    """Scores `[N]` by name, of islands `[N, L, h, w]`; without `agreement` only those of truths."""
    scores: Scores = {}
    for l in range(labels.shape[1]):
        if agreement is not None:
            scores[f"agreement_{l + 1}"] = agreement[:, l].astype(np.float64)
            counts = labels[:, l].reshape(len(labels), -1).max(axis=1) + 1
            scores[f"islands_{l + 1}"] = counts.astype(np.float64)
        scores |= _against(labels[:, l], truths, f"_{l + 1}")
    return scores


def _against(labels: np.ndarray, truths: Mapping[str, np.ndarray], suffix: str) -> Scores:
    scores = {}
    for name, truth in truths.items():
        found = upsample_nearest(labels, truth.shape[1:])
        scores[f"{name}_fg_ari{suffix}"] = fg_ari(truth, found)
        scores[f"{name}_ari{suffix}"] = ari(truth, found)
    return scores


def _rows(methods: Mapping[str, dict[str, Any]], num_levels: int) -> dict[str, dict[str, Any]]:
    """A row of the table for each method and level, the trained model's without its name.

    Without standard errors, for which there is no room.
    """
    rows = {}
    for name, scores in methods.items():
        if not any(score.endswith("_1") for score in scores):
            rows[name] = {s: v for s, v in scores.items() if not s.endswith("_se")}
            continue
        for l in range(1, num_levels + 1):
            of_level = {s: v for s, v in scores.items() if s.endswith(f"_{l}")}
            row = f"level {l}" if name == "trained" else f"{name}, level {l}"
            rows[row] = {score.removesuffix(f"_{l}"): value for score, value in of_level.items()}
    return rows
