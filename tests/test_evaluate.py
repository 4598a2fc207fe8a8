"""An evaluation: what it writes, that it repeats itself, and that its parts agree."""

import json

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from akorn_jax import data, evaluate, train
from akorn_jax import state as states
from akorn_jax.errors import UserError
from akorn_jax.evaluation import segmentation
from akorn_jax.outputs import ModelOutput


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A place for a trained run, made by the first test that needs it."""
    return epath.Path(tmp_path_factory.mktemp("run"))


@pytest.fixture
def trained(tiny, run):
    tiny.num_steps = tiny.checkpoint_every = 4
    train.train(tiny, run)
    return run


def test_writes_scores_and_pictures(tiny, trained):
    summary = evaluate.evaluate(tiny, trained)
    assert json.loads((trained / "metrics.json").read_text()) == summary
    assert summary["step"] == 4
    assert summary["dataset"] == "tetrominoes/procedural"
    assert summary["num_images"] == 16
    assert summary["num_without_objects"] == 0
    for name in ("untrained", "position", "token colors", "pixel colors", "color components"):
        assert 0 <= summary["baselines"][name]["mbo"] <= 1
    # Colour and connectedness nearly solve these scenes, and more so where no colour repeats.
    assert summary["baselines"]["color components"]["fg_ari"] > 0.9
    groups = summary["by_color"]
    assert groups["distinct"]["num_images"] + groups["repeated"]["num_images"] == 16
    distinct, repeated = (groups[g]["pixel colors"]["fg_ari"] for g in ("distinct", "repeated"))
    assert distinct > repeated + 0.2

    with np.load(trained / "metrics_per_image.npz") as per_image:
        assert per_image["record"].tolist() == list(range(16))
        np.testing.assert_allclose(per_image["fg_ari"].mean(), summary["fg_ari"])
        error = per_image["mbo"].std(ddof=1) / 4
        np.testing.assert_allclose(error, summary["mbo_se"])
    picture = np.asarray(Image.open(trained / "figures" / "segmentation.png").convert("RGB"))
    assert picture.std() > 30  # not blank


def test_the_same_command_gives_the_same_numbers(tiny, trained):
    tiny.eval.baselines = False
    first = evaluate.evaluate(tiny, trained)
    assert evaluate.evaluate(tiny, trained) == first
    tiny.eval.seed = 1  # other oscillators
    assert evaluate.evaluate(tiny, trained)["mbo"] != first["mbo"]


def test_more_steps_and_tiles_at_evaluation(tiny, trained):
    tiny.eval.baselines = False
    plain = evaluate.evaluate(tiny, trained)
    tiny.model.num_steps = 5
    tiny.eval.up_tiling = 2
    finer = evaluate.evaluate(tiny, trained)
    assert finer["up_tiling"] == 2
    assert finer["mbo"] != plain["mbo"]


def test_other_datasets_have_files_of_their_own(tiny, trained):
    tiny.eval.baselines = False
    other = tiny.copy_and_resolve_references().data
    other.test = (16, 24)
    evaluate.evaluate(tiny, trained, [other])
    metrics = json.loads((trained / "metrics-tetrominoes-procedural.json").read_text())
    assert metrics["num_images"] == 8
    assert (trained / "figures" / "segmentation-tetrominoes-procedural.png").exists()


def test_a_run_without_checkpoints(tiny, tmp_path):
    with pytest.raises(UserError, match="has no checkpoint; train first"):
        evaluate.evaluate(tiny, epath.Path(tmp_path))


def test_batches_do_not_change_what_is_not_random(tiny, data_dir):
    """The last batch is filled up, and what fills it is dropped."""
    images = data.load(tiny.data, "test", data_dir).images[:5]
    model = states.build("models", {"name": "itrsa", "channels": 8, "heads": 2}, rngs=_rngs())
    maps = [
        segmentation.label_maps(
            model,
            images,
            key=jax.random.key(0),
            num_clusters=3,
            batch_size=size,
            num_workers=0,
        )
        for size in (2, 5)
    ]
    np.testing.assert_array_equal(*maps)
    assert maps[0].shape == (5, 32, 32)


def test_masks_win_over_clusters():
    class Masked(states.nnx.Module):
        def __call__(self, images, key):
            dark = images.mean(-1) < 0.5
            return ModelOutput(masks=jax.numpy.stack([dark, ~dark], axis=1).astype(float))

    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    maps = segmentation.label_maps(
        Masked(), images, key=jax.random.key(0), num_clusters=9, batch_size=2, num_workers=0
    )
    np.testing.assert_array_equal(maps, images.mean(-1) / 255 >= 0.5)


def test_summaries_leave_out_images_without_a_score():
    summary = evaluate.summarize({"mbo": np.array([1.0, np.nan, 0.5])})
    assert summary == {"mbo": 0.75, "mbo_se": 0.25}
    assert evaluate.summarize({"mbo": np.array([np.nan])}) == {"mbo": None}


def _rngs():
    return states.nnx.Rngs(0)
