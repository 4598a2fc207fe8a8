"""The evaluation protocol of AKOrN on stored feature maps."""

from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

from akorn_jax.evaluation import clustering, up_tiling
from akorn_jax.metrics import ari

FIXTURE = Path(__file__).parents[1] / "fixtures" / "k_clustering.npz"


@pytest.fixture(scope="module")
def case():
    with np.load(FIXTURE) as file:
        return dict(file)


def channels_last(features):
    return np.moveaxis(features, 1, -1)


def test_unit_vectors(case):
    ours = clustering.unit_vectors(channels_last(case["feat_raw"]))
    np.testing.assert_allclose(ours, channels_last(case["feat"]), atol=1e-6)


@pytest.mark.parametrize("k", [2, 4, 7, 11])
def test_partitions(case, k):
    labels = clustering.cluster_maps(channels_last(case["feat"]), k)
    np.testing.assert_array_equal(ari(case[f"label/k{k}"], labels), 1)


@pytest.mark.parametrize("i", range(3))
def test_merge_heights(case, i):
    points = channels_last(case["feat"])[i].reshape(256, -1)
    heights = linkage(clustering.distances(points), "average")[:, 2]
    np.testing.assert_allclose(heights, case[f"linkage/{i}"][:, 2], rtol=1e-6)


def test_principal_components(case):
    features = channels_last(case["feat"])
    reduced = np.stack([clustering.pca(x.reshape(256, -1), 8) for x in features])
    theirs = channels_last(case["pca8"]).reshape(3, 256, 8)
    np.testing.assert_allclose(np.abs(reduced), np.abs(theirs), atol=5e-5)  # signs are free
    labels = clustering.cluster_maps(features, 4, dims=8)
    np.testing.assert_array_equal(ari(case["label_pca8/k4"], labels), 1)


def test_upsampling(case):
    ours = clustering.upsample_nearest(case["label/k4"], (64, 64))
    assert any(np.array_equal(label_map, case["upsampled/k4_x4"]) for label_map in ours)


@pytest.mark.parametrize("factor", [1, 4])
def test_up_tiling(case, factor):
    image = np.moveaxis(case["saccade/image"], 1, -1)
    crops = np.moveaxis(case[f"saccade/crops_psize4_r{4 // factor}"], 2, -1)
    np.testing.assert_allclose(up_tiling.tiles(image, factor, 4), crops, atol=1e-6)
