"""TFDS's own `clevr`: read as it is prepared, trained on and scored by average precision."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

import launch
from akorn_jax import evaluate, run_config, train
from akorn_jax.data import properties, records
from akorn_jax.errors import UserError
from akorn_jax.evaluation.set_prediction import THRESHOLDS
from configs import clevr_set_prediction

NUM_SCENES = {"train": 6, "validation": 5}
PATCHES = {"shape": 3, "size": 2, "material": 2, "color": 8}


def scenes(split, folder):
    """Records as TFDS's builder yields them, the images small."""
    rng = np.random.default_rng(len(split))
    for i in range(NUM_SCENES[split]):
        path = folder / f"CLEVR_{split}_{i:06d}.png"
        Image.fromarray(rng.integers(0, 256, (24, 36, 3), np.uint8)).save(path)
        objects = [
            {
                **{name: int(rng.integers(count)) for name, count in PATCHES.items()},
                "rotation": 0.0,
                "3d_coords": rng.uniform(-3, 3, 3).astype(np.float32),
                "pixel_coords": np.zeros(3, np.float32),
            }
            for _ in range(3 + i)
        ]
        question = {"question": "Are there any other things?", "answer": "yes"}
        record = {"image": str(path), "file_name": path.name, "objects": objects}
        yield path.name, {**record, "question_answer": [question]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where a `clevr` of a few scenes is prepared."""
    folder, directory = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("data")
    builder = tfds.builder("clevr", data_dir=directory, file_format="array_record")
    with pytest.MonkeyPatch.context() as patch:
        splits = {split: list(scenes(split, folder)) for split in NUM_SCENES}
        patch.setattr(type(builder), "_split_generators", lambda self, _: splits)
        builder.download_and_prepare()
    return directory


@pytest.fixture
def config(directory):
    config = clevr_set_prediction.get_config("tfds")
    config.data_dir = str(directory)
    config.data.update(train=(0, 6), test=(0, 5), size=8)
    config.model.update(image_size=8, num_slots=9, channels=4, slot_size=4, hidden_size=4)
    config.batch_size = 8
    return config


def test_scenes(config, directory):
    examples = records.load(config.data, "train", directory)
    assert examples.segmentation is None
    assert examples.images.shape == (6, 8, 8, 3)
    assert examples.attributes.keys() == set(properties.FIELDS)
    assert sorted(examples.counts) == [3, 4, 5, 6, 7, 8]
    listed = examples.attributes["visibility"][:, 1:].sum(axis=1)
    np.testing.assert_array_equal(listed, examples.counts)
    source = tfds.builder("clevr", data_dir=directory).as_data_source("train")
    for i, record in enumerate(source):
        count = examples.counts[i]
        x = examples.attributes["x"][i, 1 : 1 + count]
        np.testing.assert_array_equal(x, np.stack(record["objects"]["3d_coords"])[:, 0])
        image = Image.fromarray(record["image"]).resize((8, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(examples.images[i], np.asarray(image))


def test_a_run_is_scored_by_average_precision(config, tmp_path, capsys):
    workdir = epath.Path(tmp_path)
    config.num_steps = 2
    train.train(config, workdir)
    summary = evaluate.evaluate(config, workdir)
    assert json.loads((workdir / "metrics.json").read_text()) == summary
    where = {"step": 2, "dataset": "clevr", "split": "test", "num_images": 5}
    assert where.items() <= summary.items()
    for scores in (summary, summary["baselines"]["untrained"]):
        values = [scores[name] for name in THRESHOLDS]
        assert values == sorted(values, reverse=True), "the stricter, the lower"
        assert 0 <= values[-1] <= values[0] <= 1
    assert "AP 0.125" in capsys.readouterr().out
    assert not (workdir / "figures").exists()

    config.eval.baselines = False
    config.eval.up_tiling = 2
    with pytest.raises(UserError, match="up_tiling=2: sets are predicted from whole images"):
        evaluate.evaluate(config, workdir)
    config.eval.up_tiling = 1
    config.task = run_config.ConfigDict({"name": "autoencoding", "flip": False})
    assert "fg_ari" not in evaluate.evaluate(config, workdir), "there are no masks to compare with"


def test_preparing_it_is_left_to_tfds(config, directory, tmp_path):
    launch.prepare_data(config.data, config, skip_bad=False)  # it is there
    config.data_dir = str(tmp_path)
    with pytest.raises(UserError, match="run `tfds build clevr --file_format=array_record"):
        launch.prepare_data(config.data, config, skip_bad=False)
