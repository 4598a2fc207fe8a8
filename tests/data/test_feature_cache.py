"""Features of a frozen encoder: computed once, whatever interrupts it, and nobody else's."""

import numpy as np
import pytest
from etils import epath

from akorn_jax import evaluate, features, run_config, train
from akorn_jax.data import records
from akorn_jax.data.feature_cache import FeatureCache
from akorn_jax.errors import UserError
from akorn_jax.layers.noise import Noise
from akorn_jax.training import train_state
from configs import fields, tetrominoes_dinosaur


@pytest.fixture
def config(data_dir):
    """96 scenes to train on, of 32 pixels and 8x8 features."""
    config = tetrominoes_dinosaur.get_config("small,procedural,features")
    config.init_from.path = ""  # a random encoder does as well
    config.data_dir = str(data_dir)
    config.data.train, config.data.test, config.data.validation = (32, 128), (0, 16), None
    config.data.max_records = 128
    encoder = {"name": "vit", "image_size": 32, "patch_size": 8, "width": 8, "depth": 1, "heads": 2}
    sizes = {"slot_size": 8, "hidden_size": 8, "decoder_size": 8, "num_slots": 3}
    config.model = fields.model("dinosaur", encoder=encoder, grid=(4, 4), feature_size=8, **sizes)
    config.num_steps, config.batch_size, config.log_every, config.checkpoint_every = 4, 8, 4, 4
    config.mesh.data, config.mesh.fsdp = 1, -1
    config.eval.batch_size, config.eval.num_workers = 16, 1
    return config


@pytest.fixture(autouse=True)
def _away(data_dir):
    """No test sees the features of the one before."""
    yield
    epath.Path(data_dir / "tetrominoes/procedural/features").rmtree(missing_ok=True)


def test_interrupted_work_goes_on(config, monkeypatch):
    append, count = FeatureCache.append, 0

    def interrupted(cache, rows):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        append(cache, rows)

    monkeypatch.setattr(FeatureCache, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features.prepare(config)
    assert FeatureCache(config.data, "train", config.data_dir).info["done"] == 32
    with pytest.raises(UserError, match="is not complete; run with --mode=prepare"):
        records.load_fields(config.data, "train", config.data_dir, ["features"])
    features.prepare(config)
    assert count == 3 + 4 + 1  # of 6 batches to train on two were done, and one to test on
    features.prepare(config)
    assert count == 3 + 4 + 1  # all are there

    arrays, places = records.load_fields(config.data, "train", config.data_dir, ["features"])
    assert arrays["features"].shape == (96, 4, 4, 8)
    assert arrays["features"].dtype == np.float16
    np.testing.assert_array_equal(places, np.arange(32, 128))
    stored = records.OnDisk(config.data, "train", config.data_dir, ["image", "features"])
    model = train_state.build_model(config.model, config.seed)
    for row in (0, 50, 95):
        expected = model.features(stored[row]["image"][None] / np.float32(255), Noise(None))[0]
        np.testing.assert_array_equal(stored[row]["features"], arrays["features"][row])
        np.testing.assert_allclose(arrays["features"][row], expected, atol=2e-3)


def test_another_encoder_is_refused(config):
    features.prepare(config)
    config.seed = 1
    with pytest.raises(UserError, match="holds the features of another encoder"):
        features.prepare(config)
    config.seed = 0
    config.data.interpolation = "bilinear"
    with pytest.raises(UserError, match="was made of other images"):
        features.prepare(config)
    config.model.encoder = {}
    with pytest.raises(UserError, match=r"config\.model has no encoder"):
        features.prepare(config)


@pytest.mark.slow
def test_training_and_evaluation_read_them(config, tmp_path):
    features.prepare(config)
    workdir = epath.Path(tmp_path)
    train.train(config, workdir)
    summary = evaluate.evaluate(config, workdir)
    assert {"trained", "average linkage"} & summary["baselines"].keys() == {"average linkage"}
    assert summary["masks"].keys() == {"decoder, cells", "attention", "attention, cells"}
    assert np.isfinite(summary["feature_mse"])


def test_features_are_not_mirrored(config):
    changed = run_config.override(config, ["--config.task.flip=True"])
    with pytest.raises(UserError, match="mirrors images, not features"):
        train_state.build("tasks", changed.task)
