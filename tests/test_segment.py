"""Anyone's pictures: label maps at their own size, resumed where it stopped."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from etils import epath
from PIL import Image
from pycocotools.coco import COCO

from akorn_jax import evaluate, metrics, run_config, segment
from akorn_jax.errors import UserError
from akorn_jax.pretrained import Pretrained
from akorn_jax.score import label_maps
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints
from configs import base, fields
from datasets import pictures as folder_pictures

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'


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
    return three(tmp_path / "pictures")


@pytest.fixture(scope="module")
def segmented(run, tmp_path_factory):
    """Pictures and what was made of them, to look at."""
    directory = tmp_path_factory.mktemp("segmented")
    folder = three(directory / "pictures")
    return folder, segment.segment(*run, str(folder), directory / "out")


def three(folder):
    rng = np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True)
    for name, shape in {"a.png": (20, 30, 3), "b.jpg": (64, 48, 3), "sub/c.png": (9, 9)}.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    return folder


def notes_of(out):
    return [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]


def labels_of(out):
    """Label maps by name."""
    return label_maps.read(out / "labels")


def test_every_picture_at_its_own_size(segmented):
    _, out = segmented
    notes = notes_of(out)
    assert [note["file"] for note in notes] == ["a.png", "b.jpg", "sub/c.png"]
    coco = COCO(out / "coco.json")
    for number, note in enumerate(notes, 1):
        name = note["file"].rpartition(".")[0]
        labels = np.asarray(Image.open(out / "labels" / f"{name}.png"))
        assert labels.shape == (note["height"], note["width"])
        assert Image.open(out / "overlays" / f"{name}.jpg").size == labels.shape[::-1]
        assert sum(item["area"] for item in note["objects"]) == labels.size
        assert coco.imgs[number]["file_name"] == note["file"]
        annotations = coco.imgToAnns[number]
        for item, annotation in zip(note["objects"], annotations, strict=True):
            mask = labels == item["id"]
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            y0, x0, y1, x1 = item["box"]
            assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
            assert mask.any(1).nonzero()[0][[0, -1]].tolist() == [y0, y1 - 1]
            assert mask.any(0).nonzero()[0][[0, -1]].tolist() == [x0, x1 - 1]
            assert item["area"] == annotation["area"] == mask.sum()
            assert 0 < item["score"] <= 1


def test_the_scorer_reads_what_was_written(segmented):
    """Labels and COCO pair by name with anybody's masks, and hold the same segments."""
    _, out = segmented
    maps, coco = labels_of(out), label_maps.read(out / "coco.json")
    assert sorted(maps) == sorted(coco) == ["a", "b", "sub/c"]
    for name in maps:
        assert metrics.ari(maps[name][None], coco[name][None]) == 1


def test_python_gives_the_same_arrays(run, segmented):
    import akorn_jax

    pictures, out = segmented
    files = [pictures / note["file"] for note in notes_of(out)]
    images = [segment.read(file) for file in files]
    loaded = akorn_jax.load_run(run[1])
    for file, found in zip(files, loaded.segment(images), strict=True):
        name = file.relative_to(pictures).with_suffix(".png")
        np.testing.assert_array_equal(np.asarray(Image.open(out / "labels" / name)), found)
    stacked = np.stack([images[0]] * 3)
    assert loaded.segment(stacked).shape == (3, 20, 30)
    with pytest.raises(ValueError, match=r"float32\[20, 30, 3\]: uint8"):
        loaded.segment([images[0].astype(np.float32)])


@pytest.mark.parametrize("model", ["slot_attention", pytest.param("spair", marks=pytest.mark.slow)])
def test_slots_and_boxes(model, pictures, tmp_path):
    """Models with masks: ids are places of masks, scores are what the masks say."""
    recipe = {"slot_attention": "tetrominoes_slot_attention", "spair": "dsprites_spair:small"}
    name, _, variant = recipe[model].partition(":")
    config = run_config.from_recipe(f"configs/{name}.py:{variant}")
    config.eval.batch_size = 2
    made = train_state.build_model(config.model, 0)
    task = train_state.build("tasks", config.task)
    loaded = Pretrained(config, made, task)
    images = [segment.read(file) for file in segment.find(str(pictures))[1]]
    with loaded.segmenter() as segmenter:
        scaled = {i: segmenter.scaled(image) for i, image in enumerate(images[:2])}
        output = loaded(np.stack(list(scaled.values())))
        for found in segmenter.batch(scaled, 0):
            assert found.labels.shape == output.masks.shape[2:]
            assert set(found.scores) == {*np.unique(found.labels)}
            assert found.labels.max() < output.masks.shape[1]
            assert all(0 <= score <= 1 for score in found.scores.values())


def test_resumes_as_if_nothing_had_happened(run, pictures, tmp_path, monkeypatch):
    whole = segment.segment(*run, str(pictures), tmp_path / "whole")
    out = tmp_path / "out"
    describe, calls = segment.describe, []

    def killed(labels, scores):
        calls.append(labels.shape)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return describe(labels, scores)

    monkeypatch.setattr(segment, "describe", killed)
    with pytest.raises(KeyboardInterrupt):
        segment.segment(*run, str(pictures), out)
    with (out / "objects.jsonl").open("a") as notes:
        notes.write('{"file": "b.jp')  # the line that was being written
    segment.segment(*run, str(pictures), out)
    assert len(calls) == 4, "only what was not done"
    assert notes_of(out) == notes_of(whole)
    for name, labels in labels_of(whole).items():
        np.testing.assert_array_equal(labels_of(out)[name], labels)
    assert (out / "coco.json").read_bytes() == (whole / "coco.json").read_bytes()
    segment.segment(*run, str(pictures), out)
    assert len(calls) == 4

    os.utime(pictures / "a.png", (2e9, 2e9))  # changed since
    (out / "labels" / "b.png").unlink()
    segment.segment(*run, str(pictures), out)
    assert len(calls) == 6
    assert {note["file"] for note in notes_of(out)} == {"a.png", "b.jpg", "sub/c.png"}


def test_segments_of_another_run_are_not_mixed(run, pictures, tmp_path):
    config, workdir = run
    segment.segment(config, workdir, str(pictures), tmp_path / "out")
    other = config.copy_and_resolve_references()
    other.eval.seed = 5
    with pytest.raises(UserError, match=r"holds segments of eval.seed=0, not 5; choose another"):
        segment.segment(other, workdir, str(pictures), tmp_path / "out")
    with pytest.raises(UserError, match="holds segments of images="):
        segment.segment(config, workdir, str(pictures / "sub"), tmp_path / "out")


def test_bad_pictures_end_it_or_are_passed_over(run, pictures, tmp_path, caplog):
    (pictures / "bad.png").write_bytes(b"\x89PNG no")
    with pytest.raises(UserError, match=r"bad\.png: cannot be read .*--skip_bad"):
        segment.segment(*run, str(pictures), tmp_path / "out")
    assert not (tmp_path / "out" / "coco.json").exists()
    out = segment.segment(*run, str(pictures), tmp_path / "out", skip_bad=True)
    assert len(notes_of(out)) == 3
    assert "1 of 4 pictures were skipped" in caplog.text
    Image.new("RGB", (4, 4)).save(pictures / "b.png")
    with pytest.raises(UserError, match=r"b\.png: b\.jpg would be written under the same name"):
        segment.segment(*run, str(pictures), tmp_path / "other")


def test_memory_does_not_grow_with_the_pictures(run, tmp_path):
    """COCO's file is written line by line, and no list of segments is held."""
    out = tmp_path / "out"
    out.mkdir()
    item = {"id": 0, "area": 1, "box": [0, 0, 1, 1], "score": 1.0, "counts": "1" * 10_000}
    note = {"file": "a.png", "height": 1, "width": 1, "objects": [item] * 10}
    (out / "objects.jsonl").write_text(f"{json.dumps(note)}\n" * 300)
    tracemalloc.start()
    segment.write_coco(out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (out / "coco.json").stat().st_size > 30e6
    assert peak < 3e6


def reads(tmp_path):
    """Pictures of every mode as files."""
    grey = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (20, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGB", "L", "P", "RGBA", "LA", "1", "CMYK"):
        ending = "tif" if mode == "CMYK" else "png"
        Image.fromarray(grey).convert("RGB").convert(mode).save(tmp_path / f"{mode}.{ending}")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.int32) * 257).save(tmp_path / "32.tif")
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "f.tif")
    Image.fromarray(grey).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(grey).save(tmp_path / "x.webp")
    pages = [Image.fromarray(grey), Image.fromarray(grey[::-1])]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    return sorted(tmp_path.iterdir())


def test_pictures_look_as_those_that_a_model_is_trained_on(tmp_path):
    """Neither package may import the other, so both can read; here they are one."""
    files = reads(tmp_path)
    assert len(files) == 13
    for file in files:
        np.testing.assert_array_equal(segment.read(file), np.asarray(folder_pictures.read(file)))


@pytest.mark.parametrize(
    ("pattern", "root", "names"),
    [
        ("", "", ["a.png", "b.jpg", "sub/c.png"]),
        ("*.png", "", ["a.png"]),
        ("[ab].*", "", ["a.png", "b.jpg"]),
        ("**/*.png", "", ["a.png", "sub/c.png"]),
        ("su*/c.png", "", ["sub/c.png"]),
        ("sub/?.png", "sub", ["c.png"]),
        ("sub/c.png", "sub", ["c.png"]),
    ],
)
def test_names_are_relative_to_what_the_pattern_fixes(pattern, root, names, pictures):
    found_root, found = segment.find(str(pictures / pattern))
    assert found_root == pictures / root
    assert [file.relative_to(found_root).as_posix() for file in found] == names


def test_no_picture(run, tmp_path):
    with pytest.raises(UserError, match="no picture"):
        segment.segment(*run, str(tmp_path / "*.jpg"), tmp_path / "out")


def test_a_run_is_needed(run, pictures, tmp_path):
    with pytest.raises(UserError, match="has no checkpoint"):
        evaluate.restore(run[0], tmp_path)
