"""Whether slots do their work: how many win anything, and the known ways in which they collapse.

Everything comes from label maps and a few numbers per image that are kept beside them, so that it
costs next to nothing. A *remark* is one line on what looks wrong, with a remedy.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.metrics import contingency, rand_index
from akorn_jax.outputs import ModelOutput

Array = jax.Array
Health = dict[str, float | None]

# Names in `metrics.json`, and what they are.
MEANINGS = {
    "slots_used": "segments that win at least one pixel, per image",
    "dead_slots": "share of the slots that win no pixel of any image",
    "largest_share": "share of the picture that the largest segment takes",
    "mask_entropy": "entropy of the masks at a pixel: 0 one slot has it, 1 all have as much",
    "attention_entropy": "the same of the slots' attention",
    "background_by_one": "share of the images in which one segment has over 80 % of the background",
    "position_ari": "ARI of the segments of one image with those of the next",
    "position_r2": "share of the masks' variance that the position alone explains",
}

KEPT = ("mask_areas", "mask_entropy", "attention_entropy")  # of `reduce`, as far as there are

COVERED = 0.8  # of the background, by one segment
PAIRS = 256  # images that are compared with the next one, at most
# From where on a run looks collapsed.
ENTROPY = 0.9
DEAD = 0.5
POSITION = 0.5  # ARI between pictures
BEYOND_TRUTH = 0.2  # ARI between pictures, above that of their true segments


def reduce(output: ModelOutput) -> dict[str, Array]:
    """What is kept of a batch, beside its label maps; runs inside jit.

    Returns:
        "mask_areas" `[B, K]`, the mean of each mask, and "mask_entropy" `[B]`; "attention_entropy"
        `[B]`; of the parts that the model has.
    """
    found = {}
    if output.masks is not None:
        found["mask_areas"] = jnp.mean(output.masks, axis=(2, 3))
        found["mask_entropy"] = entropy(output.masks)
    if output.attention is not None:
        found["attention_entropy"] = entropy(output.attention)
    return found


def entropy(masks: Array) -> Array:
    """Mean over pixels of the entropy of K masks `[B, K, H, W]`, divided by log K: `[B]` in [0, 1].

    It is 0 for a single mask. Of masks that do not sum to 1 what is outside [0, 1] is clipped.
    """
    num_masks = masks.shape[1]
    if num_masks == 1:
        return jnp.zeros(len(masks))
    nats = jnp.sum(jax.scipy.special.entr(jnp.clip(masks.astype(jnp.float32), 0, 1)), axis=1)
    return jnp.mean(nats, axis=(1, 2)) / np.log(num_masks)


def measure(labels: np.ndarray, kept: Mapping[str, np.ndarray], examples: Examples) -> Health:
    """The numbers of `MEANINGS`; None where there is nothing to tell.

    Args:
        labels: label maps `[N, H, W]`.
        kept: what `reduce` kept of the N images; empty for segments that are no slots, of which
            nobody can say which are dead.
        examples: the N scenes; without true segments nothing is said of the background.
    """
    areas = [np.bincount(each.ravel()) / each.size for each in labels]
    found = {
        "slots_used": float(np.mean([np.count_nonzero(area) for area in areas])),
        "largest_share": float(np.mean([area.max() for area in areas])),
        "background_by_one": background_by_one(labels, examples),
        "position_ari": position_ari(labels),
    }
    if "mask_areas" in kept:
        num_slots = kept["mask_areas"].shape[1]
        found["dead_slots"] = 1 - len(np.unique(labels)) / num_slots
        found["position_r2"] = position_r2(labels, num_slots)
    for name in KEPT[1:]:
        if name in kept:
            found[name] = float(np.mean(kept[name]))
    return {name: found[name] for name in MEANINGS if name in found}


def background_by_one(labels: np.ndarray, examples: Examples) -> float | None:
    """Share of the images with a background in which one segment has over 80 % of it."""
    if examples.segmentation is None:
        return None
    covered = []
    for true, pred in zip(examples.segmentation, labels, strict=True):
        background = pred[np.isin(true, examples.background_ids)]
        if background.size:
            covered.append(np.bincount(background).max() > COVERED * background.size)
    return float(np.mean(covered)) if covered else None


def position_ari(labels: np.ndarray) -> float | None:
    """Mean adjusted Rand index of the segments of an image with those of the next one.

    It is about 0 where segments follow the pictures and 1 where they are the same stripes in all of
    them, under whatever names. Pairs of images without a second segment tell nothing; None where
    there is no other.
    """
    scores = []
    for one, other in itertools.pairwise(labels[: PAIRS + 1]):
        counts = contingency(one, other, ignore_ids=()).counts
        if counts.size > 1:
            scores.append(rand_index(counts))
    return float(np.mean(scores)) if scores else None


def position_r2(labels: np.ndarray, num_slots: int) -> float | None:
    """Share of the variance of who wins a pixel that its position explains, in [0, 1].

    With p_k(x) the share of N images in which slot k wins pixel x, it is 1 less the mean over x of
    sum_k p_k(x) (1 - p_k(x)) N / (N - 1), divided by the same sum of the mean p_k: an analysis of
    variance by position. None for one image, or where one slot always wins.
    """
    N, pixels = len(labels), labels[0].size
    if N < 2:
        return None
    wins = np.zeros((num_slots, pixels))
    for each in labels:
        wins[each.ravel(), np.arange(pixels)] += 1
    p = wins / N
    mean = p.mean(axis=1)
    total = np.sum(mean * (1 - mean))
    if total == 0:
        return None
    within = np.mean(np.sum(p * (1 - p), axis=0)) * N / (N - 1)
    return float(np.clip(1 - within / total, 0, 1))


def remarks(health: Health, examples: Examples) -> list[str]:
    """What looks collapsed, one line each with a remedy; empty where nothing does."""
    truth: dict[str, Any] = {}
    if examples.segmentation is not None:
        truth = measure(examples.segmentation, {}, examples)
    found = []
    # With true segments: more than half of what belongs to others than the largest is missing.
    if health["largest_share"] > (1 + truth.get("largest_share", 0.96)) / 2:
        found.append(
            f"One segment takes {health['largest_share']:.0%} of the picture: try another seed, a "
            "longer warm-up or a lower learning rate; where a KL term is weighed, weigh it less."
        )
    if health.get("mask_entropy", 0.0) > ENTROPY:
        found.append(
            f"All slots claim every pixel alike (entropy {health['mask_entropy']:.2f} of 1): "
            "nothing tells them apart yet; train longer, or with a higher learning rate."
        )
    position = health["position_ari"] or 0.0
    if position > max(POSITION, (truth.get("position_ari") or 0.0) + BEYOND_TRUTH):
        found.append(
            f"Segments are the same in all pictures (ARI {position:.2f} from one to the next), "
            "stripes or blocks by position: try another seed, a weaker decoder or a lower learning "
            "rate."
        )
    if health.get("dead_slots", 0.0) > DEAD:
        found.append(
            f"{health['dead_slots']:.0%} of the slots win no pixel of any image: fewer slots would "
            "do."
        )
    return found
