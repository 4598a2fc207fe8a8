"""Objects from features: average linkage clustering of the positions of an image.

The protocol of AKOrN (Miyato et al. 2024, arXiv:2410.13821) and of Rotating Features before it:
unit feature vectors, principal components where there are more than 128 channels, agglomerative
clustering with average linkage (UPGMA) and Euclidean distance in double precision, cut into the
data set's number of clusters, labels up-sampled to the image by nearest neighbour.

NumPy and SciPy only: worker processes import this module and should not import JAX.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist

from akorn_jax.evaluation.workers import Workers

Array = np.ndarray

MAX_DIMS = 128
FEW_DIMS = 16  # up to here, differences are as fast as inner products
BLOCK = 256  # rows of the distance matrix at once: 8 MB at 4,096 points
EXACT_BELOW = 1e-3  # distances under this share of the largest norm are computed from differences
WORTH_PROCESSES = 5e7  # pairs of points, about a second of clustering and the start of the workers


def unit_vectors(features: Array) -> Array:
    """Vectors `[..., D]` scaled to length 1; those shorter than 1e-12 are divided by that."""
    features = np.asarray(features)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def pca(features: Array, dims: int) -> Array:
    """The first principal components, neither whitened nor scaled.

    Args:
        features: `[n, d]`.
        dims: how many; features with `d <= dims` are returned as they are.

    Returns:
        `[n, min(d, dims)]`, float64 where it is a projection. Signs are arbitrary.
    """
    if features.shape[1] <= dims:
        return features
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending; dividing by n - 1 changes nothing
    return centred @ axes[:, : -dims - 1 : -1]


def distances(features: Array) -> Array:
    """Euclidean distances of all pairs, condensed as by `scipy.spatial.distance.pdist`.

    From inner products, three times as fast as from differences at 128 dimensions. Short distances
    would lose digits to cancellation and are computed from differences after all, so the relative
    error stays below 1e-8 and equal points are exactly 0 apart.

    Args:
        features: `[n, d]`.

    Returns:
        `[n (n - 1) / 2]` float64, pairs (0, 1), (0, 2), ..., (n - 2, n - 1).
    """
    if features.shape[1] <= FEW_DIMS:
        return pdist(features)
    n = len(features)
    x = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    square = np.einsum("nd,nd->n", x, x)
    limit = EXACT_BELOW**2 * square.max(initial=0.0)
    condensed = np.empty(n * (n - 1) // 2)
    end = 0
    for start in range(0, n, BLOCK):
        rows = x[start : start + BLOCK]
        block = rows @ x[start:].T
        block *= -2
        block += square[start : start + BLOCK, None]
        block += square[start:]
        np.fill_diagonal(block[:, : len(rows)], np.inf)  # nobody asks for the distance to itself
        _repair(block, rows, x[start:], limit)
        np.sqrt(block, out=block)
        for row in range(len(rows)):
            begin, end = end, end + n - start - row - 1
            condensed[begin:end] = block[row, row + 1 :]
    return condensed


def _repair(block: Array, rows: Array, columns: Array, limit: float) -> None:
    """Replaces squared distances up to `limit` by sums of squared differences, in place."""
    near = block <= limit
    affected = np.flatnonzero(near.any(1))
    exact = cdist(rows[affected], columns, "sqeuclidean")
    block[affected] = np.where(near[affected], exact, block[affected])


def average_linkage(features: Array, num_clusters: int) -> Array:
    """Agglomerative clustering, average linkage, Euclidean distance, double precision.

    Args:
        features: `[n, d]`, real.
        num_clusters: upper bound; fewer if points coincide.

    Returns:
        `[n]` int32 cluster of each point, from 0.

    Raises:
        ValueError: no points, a value that is not finite, or no clusters asked for.
    """
    features = np.asarray(features)
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"{features.shape=}: points [n, d] are needed, at least one")
    if num_clusters < 1:
        raise ValueError(f"{num_clusters=}: at least one cluster is needed")
    if not np.isfinite(features).all():
        raise ValueError("features: NaN or infinity; the network's outputs have diverged")
    if len(features) == 1:
        return np.zeros(1, np.int32)
    tree = linkage(distances(features), "average")
    return fcluster(tree, num_clusters, "maxclust").astype(np.int32) - 1


def cluster_map(features: Array, num_clusters: int, dims: int = MAX_DIMS) -> Array:
    """One image: features `[h, w, D]`, reduced to `dims` components, to labels `[h, w]` from 0."""
    height, width, channels = features.shape
    points = pca(np.reshape(features, (height * width, channels)), dims)
    return average_linkage(points, num_clusters).reshape(height, width)


def iterate_cluster_maps(
    features: Iterable[Array], num_clusters: int, workers: Workers, *, dims: int = MAX_DIMS
) -> Iterator[Array]:
    """Label maps `[h, w]` of a stream of images' features `[h, w, D]`, in order.

    The stream is read a few images ahead of the results: a generator that runs the model computes
    on the device while the workers cluster what came before.
    """
    return workers.imap(cluster_map, ((image, num_clusters, dims) for image in features))


def cluster_maps(
    features: Array,
    num_clusters: int,
    *,
    dims: int = MAX_DIMS,
    num_workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Array:
    """Label maps of a batch.

    Args:
        features: `[B, h, w, D]`, clustered as they are (see `unit_vectors`).
        num_clusters: of each image.
        dims: more channels than these are reduced to this many principal components.
        num_workers: processes; 0: this one; None: one a core where that pays.
        progress: called with the number of images done, after each.

    Returns:
        `[B, h, w]` int32 labels from 0.
    """
    features = np.asarray(features)
    batch, height, width, _ = features.shape
    if num_workers is None and batch * (height * width) ** 2 < WORTH_PROCESSES:
        num_workers = 0
    labels = np.empty((batch, height, width), np.int32)
    with Workers(num_workers) as workers:
        maps = iterate_cluster_maps(features, num_clusters, workers, dims=dims)
        for i, label_map in enumerate(maps):
            labels[i] = label_map
            if progress is not None:
                progress(i + 1)
    return labels


def upsample_nearest(labels: Array, size: tuple[int, int]) -> Array:
    """Maps `[..., h, w]` to `[..., H, W]`: pixel i takes the value at floor(i h / H)."""
    labels = np.asarray(labels)
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(size, labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]
