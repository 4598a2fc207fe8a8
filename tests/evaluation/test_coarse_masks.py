"""Masks on a grid: true masks score 1, cells are repeated, the truth is shrunk to the encoder."""

import jax
import numpy as np
import pytest
from flax import nnx

from akorn_jax import evaluate
from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import coarse_masks
from akorn_jax.layers import frozen
from akorn_jax.outputs import ModelOutput
from akorn_jax.training import train_state
from configs import tetrominoes_dinosaur

CELLS = np.random.default_rng(0).integers(0, 3, (4, 8, 8))  # which object a cell shows
MASKS = np.moveaxis(np.eye(3, dtype=np.float32)[CELLS], -1, 1)  # [B, K, h, w]


@pytest.fixture
def evaluator():
    config = tetrominoes_dinosaur.get_config("small,procedural")
    config.eval.num_workers = 1
    config.data.num_clusters = 3
    return coarse_masks.Evaluator(config, train_state.build("tasks", config.task))


def examples(side=32):
    labels = CELLS.repeat(side // 8, axis=1).repeat(side // 8, axis=2).astype(np.uint8)
    images = np.zeros((*labels.shape, 3), np.uint8)
    return Examples(images, labels, {}, np.arange(4), np.full(4, 2))


def kept(masks):
    """Batches of two, as the device gives them."""
    features = np.moveaxis(MASKS, 1, -1)
    arrays = {"masks": masks, "attention": MASKS, "features": features, "feature_mse": np.ones(4)}
    for start in (0, 2):
        yield {name: array[start : start + 2] for name, array in arrays.items()}


def test_true_masks_score_one(evaluator):
    wrong = np.flip(MASKS, axis=2)
    result = evaluator.score({"trained": kept(MASKS), "untrained": kept(wrong)}, examples())
    summary = result.summary
    assert summary["pixels"] == [32, 32]
    for scores in (summary["masks"]["decoder, cells"], summary["baselines"]["average linkage"]):
        assert [scores[name] for name in ("fg_ari", "ari", "mbo")] == pytest.approx([1, 1, 1])
    assert summary["fg_ari"] > 0.5 > summary["baselines"]["untrained"]["fg_ari"]
    assert summary["feature_mse"] == 1
    assert {"position", "pixel colors"} <= summary["baselines"].keys()
    assert result.labels.shape == (4, 32, 32)


def test_without_baselines(evaluator):
    evaluator.config.eval.baselines = False
    result = evaluator.score({"trained": kept(MASKS)}, examples())
    assert result.methods.keys() == coarse_masks.KINDS.keys()


def test_the_truth_is_shrunk_to_what_the_encoder_sees(evaluator):
    assert evaluator.size((64, 40)) == (32, 32)
    assert evaluator.size((24, 40)) == (24, 32)
    result = evaluator.score({"trained": kept(MASKS)}, examples(side=64))
    assert result.summary["pixels"] == [32, 32]
    assert result.labels.shape == (4, 64, 64)
    evaluator.config.model.encoder.image_size = 0
    assert evaluator.size((64, 40)) == (64, 40)


def test_refined_borders_lie_between_cells():
    """Two cells of a line of 8 pixels each: labels change in the middle, masks are not needed."""
    masks = np.array([0.9, 0.1, 0.1, 0.9], np.float32).reshape(1, 2, 1, 2)
    for refine in (False, True):
        labels = coarse_masks.label_maps(masks, (8, 16), refine=refine)
        np.testing.assert_array_equal(labels[0], np.repeat([[0, 1]], 8, axis=0).repeat(8, axis=1))


def test_other_models_are_refused(evaluator):
    with pytest.raises(UserError, match="coarse_masks: scores slots that explain features"):
        evaluator.reduce(ModelOutput(masks=MASKS), {})


def test_untrained_slots_have_the_trained_encoder():
    config = tetrominoes_dinosaur.get_config("small,procedural")
    config.model.decoder_size = 8
    trained = train_state.build_model(config.model, seed=1)
    found = evaluate.untrained(config, trained)
    fresh = train_state.build_model(config.model, config.seed)
    split = [
        nnx.split(model, frozen.trainable, nnx.Param, ...) for model in (found, fresh, trained)
    ]
    for ours, theirs in ((split[0][1], split[1][1]), (split[0][2], split[2][2])):
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_equal(a, b)
