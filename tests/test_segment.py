"""Anyone's pictures: label maps at their own size, resumed where it stopped."""

import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from akorn_jax import evaluate, run_config, segment
from akorn_jax.errors import UserError
from akorn_jax.score import label_maps
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints
from configs import base, fields


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained ItrSA, which needs no training to segment."""
    workdir = epath.Path(tmp_path_factory.mktemp("run"))
    config = base.get_config()
    config.data.update(name="none", num_clusters=3, size=None)
    config.model = fields.model("itrsa", channels=8, heads=2, num_steps=1)
    config.task = fields.task("autoencoding")
    config.eval.batch_size, config.eval.num_workers = 2, 1
    model = train_state.build_model(config.model, 0)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(1, {"ema": train_state.split(model)[1:]})
    run_config.save(config, workdir)
    return config, workdir


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name, shape in {"a.png": (20, 30, 3), "b.jpg": (64, 48, 3), "sub/c.png": (9, 9)}.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    return folder


def test_every_picture_at_its_own_size(run, pictures, tmp_path):
    out = segment.segment(*run, str(pictures), tmp_path / "out")
    notes = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert [note["file"] for note in notes] == ["a.png", "b.jpg", "sub/c.png"]
    from_coco = label_maps.read(out / "coco.json")
    for note in notes:
        labels = np.asarray(Image.open(out / "labels" / f"{note['file']}.png"))
        assert labels.shape == (note["height"], note["width"])
        assert Image.open(out / "overlays" / f"{note['file']}.jpg").size == labels.shape[::-1]
        assert sum(item["area"] for item in note["objects"]) == labels.size
        for item in note["objects"]:
            y0, x0, y1, x1 = item["box"]
            inside = np.zeros(labels.shape, bool)
            inside[y0:y1, x0:x1] = True
            assert inside[labels == item["id"]].all()
            assert (labels[y0] == item["id"]).any()
            assert (labels[:, x1 - 1] == item["id"]).any()
        again = from_coco[note["file"].rpartition(".")[0]]
        np.testing.assert_array_equal(again, labels + 1)


def test_python_gives_the_same_arrays(run, pictures, tmp_path):
    import akorn_jax

    out = segment.segment(*run, str(pictures / "a.png"), tmp_path / "out")
    labels = np.asarray(Image.open(out / "labels" / "a.png.png"))
    picture = Image.open(pictures / "a.png").resize((32, 32), Image.Resampling.BILINEAR)
    (found,) = akorn_jax.load_run(run[1]).segment(np.asarray(picture)[None])
    ids = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    np.testing.assert_array_equal(segment._fit(ids, labels.shape), labels)


def test_resumes_where_it_stopped(run, pictures, tmp_path, monkeypatch):
    out = tmp_path / "out"
    whole = segment.segment(*run, str(pictures), tmp_path / "whole")
    segment.segment(*run, str(pictures / "*.png"), out)
    with (out / "objects.jsonl").open("a") as notes:
        notes.write('{"file": "b.jp')  # a killed run's last line
    seen = []
    labels_of = segment.labels_of
    monkeypatch.setattr(
        segment, "labels_of", lambda run, p: seen.append(len(p)) or labels_of(run, p)
    )
    segment.segment(*run, str(pictures), out)
    assert sum(seen) == 2, "only what was not done"
    for file in ("a.png", "b.jpg"):
        a, b = (np.asarray(Image.open(o / "labels" / f"{file}.png")) for o in (out, whole))
        assert a.shape == b.shape


def test_bad_pictures_end_it_or_are_passed_over(run, pictures, tmp_path):
    (pictures / "bad.png").write_bytes(b"\x89PNG no")
    with pytest.raises(UserError, match=r"bad\.png: cannot be read .*--skip_bad"):
        segment.segment(*run, str(pictures), tmp_path / "out")
    out = segment.segment(*run, str(pictures), tmp_path / "out", skip_bad=True)
    assert len((out / "objects.jsonl").read_text().splitlines()) == 3


def test_no_picture(run, tmp_path):
    with pytest.raises(UserError, match="no picture"):
        segment.segment(*run, str(tmp_path / "*.jpg"), tmp_path / "out")


def test_a_run_is_needed(run, pictures, tmp_path):
    with pytest.raises(UserError, match="has no checkpoint"):
        evaluate.restore(run[0], tmp_path)
