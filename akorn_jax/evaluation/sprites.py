"""Learned sprites: how often each is used, and whether each stands for one kind of object.

Class-aware scores as DTI-Sprites reports them (arXiv 2104.14575, table 2): every pixel is labelled
with the sprite that explains it, sprites are assigned to classes, and accuracy and IoU are averaged
over classes, the background being one of them.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base
from akorn_jax.evaluation.result import Result
from akorn_jax.layers.resize import resize_masks
from akorn_jax.outputs import ModelOutput

Array = jax.Array

HEADINGS = {"class_acc": "class acc.", "class_miou": "class mIoU"}
SHEET = "figures/sprites.png"
MAX_SHOWN = 60  # sprites in the sheet, the most used first


class Evaluator(base.Evaluator):
    """Accuracy and IoU of sprites as classes, the sprites' usage, and a sheet of them."""

    def reduce(self, output: ModelOutput, batch: Mapping[str, Array]) -> dict[str, Array]:
        """ "labels" `[B, H, W]`: 1 + the sprite that explains a pixel, 0 for none; "dictionary"
        `[B, S, h, w, 4]` uint8."""
        if output.dictionary is None:
            raise UserError("The model has no sprites; choose other config.eval.evaluators.")
        labels = sprite_labels(output, batch["image"].shape[1:3])
        small = output.dictionary.shape[1] < 256
        return {
            "labels": labels.astype(jnp.uint8 if small else jnp.int32),
            "dictionary": jnp.rint(255 * output.dictionary).astype(jnp.uint8),
        }

    def score(self, kept: Mapping[str, Iterator[dict[str, Any]]], examples: Examples) -> Result:
        """Scores of the trained model beside the untrained one's and trivial ones."""
        labels, dictionary = {}, None
        for name, outputs in kept.items():
            maps = []
            for output in outputs:
                maps.append(output["labels"])
                dictionary = output["dictionary"][0] if dictionary is None else dictionary
            labels[name] = np.concatenate(maps)
        S = len(dictionary)
        shares = usage(labels["trained"], S)
        summary = {
            "num_sprites_used": int(np.sum(shares >= 0.1 / S)),
            "sprites": {"usage": shares.round(5).tolist()},
        }
        files = {SHEET: sheet(dictionary, shares)}
        truth = class_maps(examples)
        if truth is None:
            notes = ("The data do not say what shape objects have: sprites have no class scores.",)
            return Result(summary=summary, columns={}, methods={}, notes=notes, files=files)
        methods = {name: class_scores(confusion(truth, maps, S)) for name, maps in labels.items()}
        methods["true masks, one sprite"] = class_scores(confusion(truth, truth > 0, 1))
        others = {name: scores for name, scores in methods.items() if name != "trained"}
        summary |= {"num_classes": int(truth.max()), **methods["trained"], "baselines": others}
        return Result(summary=summary, columns=HEADINGS, methods=methods, files=files)


def sprite_labels(output: ModelOutput, size: tuple[int, int]) -> Array:
    """Of each pixel, 1 + the sprite of the slot with the largest mask; 0 where it shows none."""
    S = output.dictionary.shape[1]
    choices = output.slots[..., :S]  # [B, K, S]
    shows = jnp.sum(choices, axis=-1) > 0.5
    ids = jnp.where(shows, 1 + jnp.argmax(choices, axis=-1), 0)  # [B, K]
    owner = jnp.argmax(resize_masks(output.masks, size), axis=1)  # [B, H, W]
    return jax.vmap(lambda ids, owner: ids[owner])(ids, owner)


def usage(labels: np.ndarray, num_sprites: int) -> np.ndarray:
    """The share of each sprite in all pixels that any sprite explains, `[S]`; zeros if none is."""
    counts = np.bincount(labels.ravel(), minlength=1 + num_sprites)[1:]
    return counts / max(counts.sum(), 1)


def class_maps(examples: Examples) -> np.ndarray | None:
    """The class of each pixel's object, 1 to C, `[N, H, W]`; 0 for the background.

    A class is a shape; where there are two materials, a shape of a material, since no recolouring
    makes metal of rubber. None where the data have no masks or no shapes.
    """
    attributes, segmentation = examples.attributes, examples.segmentation
    if segmentation is None or "shape" not in attributes:
        return None
    kinds = np.asarray(attributes["shape"])[..., None]  # [N, E, 1]
    entities = kinds.shape[1]
    ids = np.arange(entities)
    visible = np.stack([np.isin(ids, image) for image in segmentation])  # [N, E]
    visible &= ~np.isin(ids, (*examples.background_ids, *examples.ignore_ids))
    material = np.asarray(attributes.get("material", np.zeros(visible.shape)))
    if len(np.unique(material[visible])) == 2:
        kinds = np.concatenate([kinds, material[..., None]], axis=-1)
    classes = np.zeros(visible.shape, np.int64)
    classes[visible] = 1 + np.unique(kinds[visible], axis=0, return_inverse=True)[1].ravel()
    return np.stack([row[image] for row, image in zip(classes, segmentation, strict=True)])


def confusion(truth: np.ndarray, labels: np.ndarray, num_sprites: int) -> np.ndarray:
    """Pixels by class and sprite, `[1 + C, 1 + S]`.

    Args:
        truth: class maps `[N, H, W]` of integers.
        labels: sprites of the same pixels, 0 to S.
    """
    rows, columns = 1 + int(truth.max()), 1 + num_sprites
    counts = np.zeros(rows * columns, np.int64)
    for classes, sprites in zip(truth, labels, strict=True):
        counts += np.bincount((classes * columns + sprites).ravel(), minlength=rows * columns)
    return counts.reshape(rows, columns)


def class_scores(counts: np.ndarray) -> dict[str, float]:
    """Mean accuracy and mean IoU over classes, in [0, 1].

    Sprites are assigned one to one to classes, such that most pixels agree; where there are more
    sprites than classes, each to the class that it covers most of.

    Args:
        counts: pixels `[1 + C, 1 + S]`, see `confusion`.
    """
    merged = np.zeros((len(counts), len(counts)))
    if counts.shape[1] > len(counts):
        for column, row in enumerate(np.argmax(counts, axis=0)):
            merged[:, row] += counts[:, column]
    else:
        rows, columns = linear_sum_assignment(counts, maximize=True)
        merged[:, rows] = counts[:, columns]
    hits, true, predicted = np.diag(merged), counts.sum(1), merged.sum(0)
    return {
        "class_acc": float(np.mean(hits / np.maximum(true, 1))),
        "class_miou": float(np.mean(hits / np.maximum(true + predicted - hits, 1))),
    }


def sheet(dictionary: np.ndarray, shares: np.ndarray) -> bytes:
    """The most used sprites on grey and, next to each, its mask, with their usage, as a PNG.

    Args:
        dictionary: RGBA `[S, h, w, 4]` uint8.
        shares: `[S]`, see `usage`.
    """
    shown = np.argsort(-shares, kind="stable")[:MAX_SHOWN]
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.7 * columns, 1.05 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place in range(rows * columns):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.axis("off")
        if place >= len(shown):
            continue
        sprite = dictionary[shown[place]].astype(np.float64) / 255
        alpha = sprite[..., 3:]
        gap = np.ones((len(sprite), 1, 3))
        picture = alpha * sprite[..., :3] + (1 - alpha) * 0.5
        axes.imshow(np.concatenate([picture, gap, np.repeat(alpha, 3, -1)], axis=1))
        axes.set_title(f"{shown[place] + 1}: {100 * shares[shown[place]]:.1f} %", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    return file.getvalue()
