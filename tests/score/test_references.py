"""Every convention against the implementation that its users run.

`tests/fixtures/score/references.npz` holds 21 hand-made and 1,000 random pairs of label maps
(20 x 24 pixels, 0 to 10 objects, 1 to 480 segments; right, shifted, merged, split and noisy ones)
and what these gave for each pair, their code unchanged:

  deepmind_fg_ari    multi_object_datasets, `adjusted_rand_index` of the objects' masks (float32)
  sklearn_*          scikit-learn, `adjusted_rand_score` of all pixels and of those of objects
  clevrtex_miou_fg   the ClevrTex evaluator, `mIoU_fg` of one image at a time
  ocl_mbo, ocl_miou  object-centric-learning-framework, `UnsupervisedMaskIoUMetric` by best overlap
                     and Hungarian, without the background
  genesis_*          GENESIS, `average_segcover` of objects, equally and by area
  torchmetrics_pq    torchmetrics, `PanopticQuality`: the background is stuff, objects are things,
                     predicted segments that are more than half in the background are stuff
  davis_boundary_f   DAVIS 2017, `f_measure` of the pixels of objects and those of odd segments
  lsd_miou           LSD, its matching and IoU as its eval.py calls them, with as many slots as
                     objects at least; IoU of an image's objects in ascending order

NaN stands where there is nothing to score, and where a reference divides 0 by 0.
"""

from pathlib import Path

import numpy as np
import pytest

from akorn_jax import metrics
from akorn_jax.score import conventions

FILE = Path(__file__).parents[1] / "fixtures" / "score" / "references.npz"
RULES = {
    "deepmind_fg_ari": "fg_ari_nan",
    "sklearn_ari": "ari",
    "sklearn_fg_ari": "fg_ari",
    "clevrtex_miou_fg": "miou_clevrtex",
    "ocl_mbo": "mbo_image",
    "ocl_miou": "miou_true",
    "genesis_sc": "sc",
    "genesis_msc": "msc",
    "torchmetrics_pq": "pq",
}


@pytest.fixture(scope="module")
def references():
    with np.load(FILE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def tables(references):
    pairs = zip(references["true"], references["pred"], strict=True)
    return [metrics.contingency(true, pred, ()) for true, pred in pairs]


@pytest.mark.parametrize("reference", RULES)
def test_as_the_reference(reference, references, tables):
    rule = conventions.CONVENTIONS[RULES[reference]]
    ours = np.array([rule.score(table, (0,)) for table in tables])
    theirs = references[reference]
    undefined = np.isnan(ours)
    np.testing.assert_allclose(ours[~undefined], theirs[~undefined], rtol=0, atol=1e-6)
    if reference == "deepmind_fg_ari":  # one object, found whole: 0/0, or x/x after rounding
        assert np.isin(theirs[undefined & ~np.isnan(theirs)], 1).all()
    assert np.isfinite(theirs[undefined]).sum() <= (reference == "deepmind_fg_ari")
    assert (~undefined).sum() > 800


def test_boundaries_as_davis(references):
    pairs = zip(references["true"], references["pred"], strict=True)
    ours = [conventions.boundary_f(true > 0, pred % 2 == 1) for true, pred in pairs]
    np.testing.assert_allclose(ours, references["davis_boundary_f"], rtol=0, atol=1e-12)


def test_objects_as_lsd(references, tables):
    for table, theirs in zip(tables, references["lsd_miou"], strict=True):
        ours = conventions.CONVENTIONS["miou_visible"].score(table, (0,))
        theirs = theirs[~np.isnan(theirs)]
        np.testing.assert_allclose(np.sort(ours), theirs, rtol=0, atol=1e-6)


def test_the_counts_do_not_depend_on_how_they_are_counted(references):
    """Small ids are counted directly, others by sorting."""
    pairs = list(zip(references["true"], references["pred"], strict=True))[:100]
    for true, pred in pairs:
        true, pred = true.astype(np.int64), pred.astype(np.int64)
        direct = metrics.contingency(true, pred, (2,))
        sorted_ = metrics.contingency(true * 1000 - 1, pred * 1000, (1999,))
        np.testing.assert_array_equal(direct.counts, sorted_.counts)
        np.testing.assert_array_equal(direct.true_ids * 1000 - 1, sorted_.true_ids)
        np.testing.assert_array_equal(direct.pred_ids * 1000, sorted_.pred_ids)
