"""What position, colour and plain texture score: trivial segmentations beside every result.

Colour means chromaticity, so that shading does not count as a difference: on Tetrominoes, whose
tiles are bevelled, raw RGB would make these baselines weaker than they need be. A model has found
objects only where it beats the best of them, above all on scenes in which colours repeat
(`repeats_color`).

All functions take images uint8 `[B, H, W, 3]` and return int32 label maps `[B, H, W]` from 0. Those
that cluster take worker processes; without, this process does the work. NumPy and SciPy only: the
workers import this module and should not import JAX.
"""

import itertools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from akorn_jax.evaluation.clustering import average_linkage, upsample_nearest
from akorn_jax.evaluation.workers import Workers

Array = np.ndarray

SAMPLE_SIDE = 32  # pixels of the largest image that is clustered whole; of larger ones, every n-th


def chromaticity(colors: Array) -> Array:
    """Colours `[..., 3]` divided by their largest channel: hue and saturation; black stays 0."""
    colors = np.asarray(colors, np.float64)
    largest = colors.max(-1, keepdims=True)
    return colors / np.where(largest == 0, 1, largest)


def position(images: Array, num_clusters: int) -> Array:
    """A grid of `num_clusters` rectangles, about square; 4 clusters are the four quadrants.

    With a number that is no product of such sides, some rows have one rectangle more than others.
    """
    batch, height, width, _ = images.shape
    rows = round(num_clusters**0.5)
    row = np.arange(height) * rows // height
    first = np.arange(rows + 1) * num_clusters // rows  # of each row; the last is the total
    count = np.diff(first)[row]
    column = np.arange(width) * count[:, None] // width
    labels = (first[row][:, None] + column).astype(np.int32)
    return np.tile(labels, (batch, 1, 1))


def token_colors(
    images: Array, num_clusters: int, *, patch_size: int, workers: Workers | None = None
) -> Array:
    """Mean colours of the patches, clustered: what a model could do that sees one patch a token.

    Raises:
        ValueError: the patch size does not divide the image size.
    """
    _check_patches(images, patch_size)
    return _each(_token_colors, images, num_clusters, patch_size, workers=workers)


def token_textures(
    images: Array, num_clusters: int, *, patch_size: int, workers: Workers | None = None
) -> Array:
    """First-order texture: the mean and the deviation of each patch's colours, clustered.

    Here colours are RGB with their brightness, which is what most textures vary in.

    Raises:
        ValueError: the patch size does not divide the image size.
    """
    _check_patches(images, patch_size)
    return _each(_token_textures, images, num_clusters, patch_size, workers=workers)


def pixel_colors(images: Array, num_clusters: int, *, workers: Workers | None = None) -> Array:
    """Colours of the pixels, clustered."""
    return _each(_pixel_colors, images, num_clusters, workers=workers)


def color_components(images: Array, num_clusters: int, *, workers: Workers | None = None) -> Array:
    """Connected regions of the clusters of `pixel_colors`, 4 neighbours to a pixel.

    The `num_clusters` largest are kept; smaller ones join the largest, which is label 0.
    """
    return _each(_color_components, images, num_clusters, workers=workers)


def repeats_color(color: Array, visibility: Array, *, first_object: int = 1) -> Array:
    """Scenes in which two visible objects have the same colour.

    Args:
        color: `[B, E]` codes or `[B, E, 3]` channels of the entities.
        visibility: `[B, E]`, not 0 where the scene has the entity.
        first_object: entities before it are background.

    Returns:
        bool `[B]`.
    """
    color, visibility = np.asarray(color), np.asarray(visibility)
    color = color.reshape(*visibility.shape, -1)[:, first_object:]
    visible = visibility[:, first_object:] != 0
    same = (color[:, :, None] == color[:, None]).all(-1)
    same &= visible[:, :, None] & visible[:, None]
    return same.sum((1, 2)) > visible.sum(1)  # each object is the same as itself


def _each(
    function: Callable[..., Array], images: Array, *args: int, workers: Workers | None
) -> Array:
    items = ((image, *args) for image in images)
    maps = itertools.starmap(function, items) if workers is None else workers.imap(function, items)
    return np.stack(list(maps))


def _check_patches(images: Array, patch_size: int) -> None:
    size = images.shape[1:3]
    if any(side % patch_size for side in size):
        raise ValueError(f"{patch_size=}: it does not divide the image size {list(size)}")


def _token_colors(image: Array, num_clusters: int, patch_size: int) -> Array:
    colors = chromaticity(_patches(image, patch_size).mean((1, 3)))
    return _cluster_tokens(colors, num_clusters, image.shape[:2])


def _token_textures(image: Array, num_clusters: int, patch_size: int) -> Array:
    patches = _patches(image, patch_size) / 255
    statistics = np.concatenate([patches.mean((1, 3)), patches.std((1, 3))], axis=-1)
    return _cluster_tokens(statistics, num_clusters, image.shape[:2])


def _patches(image: Array, patch_size: int) -> Array:
    """`[rows, patch_size, columns, patch_size, 3]`."""
    height, width, _ = image.shape
    return image.reshape(height // patch_size, patch_size, width // patch_size, patch_size, 3)


def _cluster_tokens(tokens: Array, num_clusters: int, size: tuple[int, int]) -> Array:
    """Labels `[*size]` of tokens `[rows, columns, D]`."""
    labels = average_linkage(tokens.reshape(-1, tokens.shape[-1]), num_clusters)
    return upsample_nearest(labels.reshape(tokens.shape[:2]), size)


def _pixel_colors(image: Array, num_clusters: int) -> Array:
    """Clusters a sample of the pixels; each pixel goes to the cluster with the nearest mean."""
    colors = chromaticity(image)
    step = -(-max(image.shape[:2]) // SAMPLE_SIDE)
    sample = colors[step // 2 :: step, step // 2 :: step].reshape(-1, 3)
    labels = average_linkage(sample, num_clusters)
    means = np.stack([sample[labels == k].mean(0) for k in range(labels.max() + 1)])
    distance = ((colors[:, :, None] - means) ** 2).sum(-1)
    return distance.argmin(-1).astype(np.int32)


def _color_components(image: Array, num_clusters: int) -> Array:
    clusters = _pixel_colors(image, num_clusters)
    regions, count = np.empty_like(clusters), 0
    for k in np.unique(clusters):
        labels, found = ndimage.label(clusters == k)
        regions = np.where(labels > 0, labels - 1 + count, regions)
        count += found
    largest_first = np.argsort(-np.bincount(regions.ravel()), kind="stable")
    rank = np.empty(count, np.int32)
    rank[largest_first] = np.arange(count)
    return np.where(rank < num_clusters, rank, 0)[regions].astype(np.int32)
