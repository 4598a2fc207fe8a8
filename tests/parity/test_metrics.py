"""Scores against the official code's, on the maps stored with them."""

from pathlib import Path

import numpy as np
import pytest

from akorn_jax import metrics

FIXTURES = Path(__file__).parents[1] / "fixtures"


def load(name):
    with np.load(FIXTURES / name) as file:
        return dict(file)


def test_akorn_scores():
    case = load("j_metrics.npz")
    fg_ari = metrics.fg_ari(case["gt"], case["pred"])
    np.testing.assert_allclose(fg_ari, case["score/fgari"], atol=1e-12)
    assert fg_ari.mean() == pytest.approx(case["score/fgari_mean"])

    mbo = metrics.mean_best_overlap(case["gt"], case["pred"])
    np.testing.assert_allclose(np.nan_to_num(mbo, nan=-1), case["score/mbo"], atol=1e-14)
    assert np.nanmean(mbo) == pytest.approx(case["score/mbo_mean"])


@pytest.mark.parametrize("i", range(12))
def test_slot_attention_scores(i):
    case = {k[7:]: v for k, v in load("slot_attention/h_ari.npz").items() if k[:6] == f"case{i:02}"}
    for score, name in ((metrics.ari, "ari"), (metrics.fg_ari, "fg_ari")):
        ours = score(case["gt"], case["pred"])
        np.testing.assert_allclose(ours, case[f"krimmel_{name}"], atol=1e-12)
        # The other two codes give NaN where the denominator vanishes, and agree elsewhere.
        for other in ("hhousen", "deepmind"):
            theirs = case[f"{other}_{name}"]
            defined = ~np.isnan(theirs)
            np.testing.assert_allclose(ours[defined], theirs[defined], atol=1e-6)


def test_set_prediction_attention_scores():
    case = load("slot_attention/h_ari.npz")
    pred = metrics.labels_from_masks(case["setpred/attention"].reshape(3, 7, 32, 32))
    true = case["setpred/labels"][:, ::4, ::4]
    np.testing.assert_allclose(metrics.ari(true, pred), case["setpred/ari"], atol=1e-12)
    np.testing.assert_allclose(metrics.fg_ari(true, pred), case["setpred/fg_ari"], atol=1e-12)


@pytest.mark.parametrize("i", range(0, 24, 2))
def test_clevrtex_evaluator(i):
    case = load("slot_attention/j_clevrtex_evaluator_even.npz")
    case = {k[7:]: v for k, v in case.items() if k[:6] == f"case{i:02}"}
    true, masks = case["true_masks"], case["pred_masks"][:, :, 0]
    if not case["masks_have_background"]:
        masks = np.concatenate([1 - masks.sum(1, keepdims=True), masks], axis=1)
    ours = metrics.clevrtex_metrics(true, masks)
    ours["MSE"] = metrics.squared_error(case["true_image"], case["pred_image"])
    theirs = {k[4:]: v for k, v in case.items() if k[:4] == "out/"}
    theirs["mSC"] = case["extra/mSC_all_labels"]  # the released loop leaves labels out
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-5, err_msg=name)


@pytest.mark.parametrize("i", range(15))
def test_average_precision(i):
    case = load("slot_attention/g_average_precision.npz")
    pred, target = case[f"case{i:02}/pred"], case[f"case{i:02}/target"]
    ours = [metrics.average_precision(pred, target, t) for t in case["thresholds"]]
    np.testing.assert_allclose(ours, case[f"case{i:02}/ap"], atol=1e-6)
