"""Masks on a grid of features against true segments of pixels, as Krimmel et al. score DINOSAUR.

Masks come from the decoder or from the attention of the slots. A cell's label either fills its
pixels, or the masks are first enlarged ("refined") and then compared pixel by pixel. The scores are
those of arXiv 2407.04170: adjusted Rand indices over all pixels and over those of objects.
"""

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.layers.resize import resize_masks

Array = jax.Array


def label_maps(masks: Array, size: tuple[int, int], *, refine: bool) -> Array:
    """The largest of K masks `[B, K, h, w]` at every pixel, `[B, *size]` integers.

    Args:
        masks: on a grid.
        size: (H, W).
        refine: enlarge the masks bilinearly first, instead of repeating the labels.
    """
    if refine:
        return jnp.argmax(resize_masks(masks, size), axis=1)
    rows, columns = (
        np.arange(new) * old // new for old, new in zip(masks.shape[2:], size, strict=True)
    )
    return jnp.argmax(masks, axis=1)[:, rows][:, :, columns]


def shrink_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """True labels `[B, H, W]` at a smaller size: pixel i comes from round(i H / size).

    Raises:
        ValueError: the size is larger than that of the labels.
    """
    return labels[:, nearest(labels.shape[1], size[0])][:, :, nearest(labels.shape[2], size[1])]


def nearest(old: int, new: int) -> np.ndarray:
    """Which of `old` pixels of a line `new` pixels come from, `[new]`; ties go to even ones.

    Raises:
        ValueError: there are more new pixels than old ones.
    """
    if new > old:
        raise ValueError(f"labels of {old} pixels cannot be shrunk to {new}; choose fewer.")
    return np.round(np.arange(new) * (old / new)).astype(int)
