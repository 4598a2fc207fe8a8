"""Clustering: SciPy's own partition, degenerate inputs, the protocol's small steps."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from akorn_jax.evaluation import clustering
from akorn_jax.metrics import ari


def blobs(rng, n=300, dims=32, groups=5, noise=0.8):
    centres = rng.normal(size=(groups, dims))
    return centres[rng.integers(0, groups, n)] + noise * rng.normal(size=(n, dims))


def same_partition(a, b):
    return ari(np.reshape(a, (1, 1, -1)), np.reshape(b, (1, 1, -1))) == 1


@pytest.mark.parametrize("dims", [3, 32, 128])
def test_average_linkage_is_scipys(dims):
    points = clustering.unit_vectors(blobs(np.random.default_rng(0), dims=dims, noise=1.5))
    labels = clustering.average_linkage(points.astype(np.float32), 7)
    expected = fcluster(linkage(points.astype(np.float32), "average"), 7, "maxclust")
    assert labels.dtype == np.int32
    assert set(labels) == set(range(7))
    assert same_partition(labels, expected)


def test_distances_are_exact_where_inner_products_cancel():
    rng = np.random.default_rng(0)
    points = 100 + blobs(rng, n=600, dims=20)
    points[100:200] = points[100] + 1e-6 * rng.normal(size=(100, 20))
    points[550] = points[3]
    ours, expected = clustering.distances(points), pdist(points)
    assert expected.min() == ours.min() == 0
    np.testing.assert_allclose(ours, expected, rtol=1e-8)


def test_fewer_points_than_clusters():
    points = np.eye(3)
    assert set(clustering.average_linkage(points, 5)) == {0, 1, 2}
    np.testing.assert_array_equal(clustering.average_linkage(points[:1], 5), [0])


@pytest.mark.parametrize("dims", [3, 32])
def test_equal_points_are_never_separated(dims):
    points = np.repeat(np.random.default_rng(0).normal(size=(3, dims)), 20, axis=0)
    labels = clustering.average_linkage(points, 7)
    assert same_partition(labels, np.repeat(np.arange(3), 20))
    np.testing.assert_array_equal(clustering.average_linkage(np.ones((30, dims)), 4), 0)


def test_wrong_points_are_refused():
    points = np.ones((4, 2))
    with pytest.raises(ValueError, match="at least one cluster"):
        clustering.average_linkage(points, 0)
    with pytest.raises(ValueError, match="at least one"):
        clustering.average_linkage(points[:0], 2)
    points[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        clustering.average_linkage(points, 2)


def test_unit_vectors_keeps_zero():
    vectors = clustering.unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 0.0]])


def test_pca_keeps_what_it_can_of_the_distances():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 10)) + 5
    reduced = clustering.pca(plane, 3)
    assert reduced.shape == (50, 3)
    np.testing.assert_allclose(pdist(reduced), pdist(plane), rtol=1e-9)
    variance = reduced.var(0)
    assert np.all(np.diff(variance) < 0)  # the largest first
    assert clustering.pca(plane, 10) is plane


def test_cluster_maps_in_processes_as_in_this_one():
    rng = np.random.default_rng(0)
    features = blobs(rng, n=5 * 64).reshape(5, 8, 8, 32)
    done = []
    here = clustering.cluster_maps(features, 4, num_workers=0)
    there = clustering.cluster_maps(features, 4, num_workers=2, progress=done.append)
    np.testing.assert_array_equal(here, there)
    assert here.shape == (5, 8, 8)
    assert done == [1, 2, 3, 4, 5]


def test_cluster_maps_reduces_channels():
    features = blobs(np.random.default_rng(0), n=64, dims=12, noise=2.0).reshape(1, 8, 8, 12)
    labels = clustering.cluster_maps(features, 5, dims=3)
    expected = clustering.average_linkage(clustering.pca(features.reshape(64, 12), 3), 5)
    assert same_partition(labels, expected)
    assert not same_partition(labels, clustering.cluster_maps(features, 5))


def test_upsample_nearest_takes_the_floor():
    labels = np.array([[[0, 1, 2]]])
    np.testing.assert_array_equal(
        clustering.upsample_nearest(labels, (2, 7)), [[[0, 0, 0, 1, 1, 2, 2]] * 2]
    )
    np.testing.assert_array_equal(clustering.upsample_nearest(labels, (1, 3)), labels)
