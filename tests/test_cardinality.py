"""More objects, more slots: which scenes are seen, and what the command makes of several runs."""

import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from akorn_jax import optimizer, run_config
from akorn_jax.data import records
from akorn_jax.errors import UserError
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints
from benchmarks import cardinality
from configs import dsprites_slot_attention
from datasets.prepare import prepare

SCENES = 40
SIZES = {"image_size": 8, "channels": 4, "slot_size": 4, "hidden_size": 4, "num_slots": 3}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare("multi_dsprites/colored_on_grayscale_procedural", directory, max_records=SCENES)
    return directory


def recipe(directory, variant=""):
    config = dsprites_slot_attention.get_config(variant + ",procedural")
    config.data_dir = str(directory)
    config.data.update(train=(0, 4), test=(4, 12), max_records=SCENES, size=8, max_objects=3)
    config.model.update(**SIZES)
    config.eval.batch_size = 16
    return config


@pytest.fixture(scope="module")
def workdirs(directory, tmp_path_factory):
    """Runs of two kinds, of one of them two seeds; nobody trained them."""
    found = []
    for i, variant in enumerate(["", "weighted_sum", "weighted_sum"]):
        config = recipe(directory, variant)
        config.seed = i
        workdir = epath.Path(tmp_path_factory.mktemp("run"))
        tx, _ = optimizer.make(config.optimizer, config.num_steps)
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            model = train_state.build_model(config.model, config.seed)
            checkpoints.save(1, train_state.create(model, tx))
        run_config.save(config, workdir)
        found.append(str(workdir))
    return found


def test_other_numbers_of_objects_come_from_the_same_stretch(directory):
    protocol = recipe(directory).data
    own = records.load(protocol, "test", directory)
    assert len(own) == 8
    assert own.counts.max() <= 3
    train = records.load(protocol, "train", directory)
    everything = records.load(protocol, "test", directory, objects=(None, None))
    many = records.load(protocol, "test", directory, objects=(4, None))
    assert many.counts.min() >= 4
    assert sorted([*own.records, *many.records]) == everything.records.tolist()
    expected = np.arange(train.records[-1] + 1, own.records[-1] + 1)
    np.testing.assert_array_equal(everything.records, expected)
    with pytest.raises(UserError, match="no test scene has 9 to any number objects"):
        records.load(protocol, "test", directory, objects=(9, None))


def test_one_command_compares_runs(workdirs, tmp_path, capsys):
    out = tmp_path / "out"
    cardinality.main([f"--workdirs={','.join(workdirs)}", "--num_slots=5,2", f"--out={out}"])
    curves = json.loads((out / "cardinality.json").read_text())["curves"]
    kinds = [(c["kind"], c["num_slots"], c["num_runs"]) for c in curves]
    assert kinds == [
        ("weighted mean", 2, 1), ("weighted mean", 5, 1),
        ("weighted sum", 2, 2), ("weighted sum", 5, 2),
    ]  # fmt: skip
    for curve in curves:
        assert max(curve["counts"]) > 3, "more than were trained with"
        assert sum(curve["num_scenes"]) > 8
        assert all(-1 <= mean <= 1 for mean in curve["means"])
    text = (out / "cardinality.md").read_text()
    assert text.count("\n| weighted") == 4
    assert f"{100 * curves[0]['means'][0]:.1f}" in text
    assert "weighted sum" in capsys.readouterr().out
    picture = np.asarray(Image.open(out / "cardinality.png").convert("RGB"))
    assert picture.std() > 10


def test_the_mean_over_runs():
    runs = [{2: np.array([0.2, 0.4]), 5: np.array([0.5])}, {2: np.array([0.7])}]
    curve = cardinality._curve("x", 7, runs)
    assert curve.counts == [2, 5]
    np.testing.assert_allclose(curve.means, [0.5, 0.5])
    np.testing.assert_allclose(curve.errors, [0.2, np.nan])
    one = cardinality._curve("x", 7, runs[:1])
    np.testing.assert_allclose(one.errors, [0.1, np.nan])
    assert "30.0 ± 10.0 | 50.0 |" in cardinality.table([one])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_slots=0"], "--num_slots=0: give positive numbers"),
        (["--num_slots=a"], "--num_slots=a: give positive numbers"),
        (["--num_slots=2", "--slots=3"], "--slots=3: no such option"),
        (["--num_slots=2", "--config.eval.x=3"], r"config\.eval\.x: no such field"),
        (["--num_slots=2", "--config.eval.min_objects=9"], "no test scene has 9 to any number"),
    ],
)
def test_wrong_input(workdirs, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        cardinality.main([f"--workdirs={workdirs[0]}", f"--out={tmp_path}", *arguments])


def test_a_run_that_was_not(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json"):
        cardinality.main([f"--workdirs={tmp_path}", f"--out={tmp_path}", "--num_slots=2"])
