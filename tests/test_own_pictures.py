"""A stranger's folder from beginning to end: train, evaluate, report, segment, score."""

import json

import numpy as np
import pytest
from PIL import Image

import launch
from akorn_jax.score import __main__ as scorer
from datasets import pictures

TINY = [
    *("--config.model.channels=8", "--config.model.num_steps=1", "--config.batch_size=8"),
    *("--config.num_steps=2", "--config.checkpoint_every=2", "--config.log_every=1"),
    *("--config.eval.batch_size=4", "--config.eval.num_workers=1", "--config.data.num_clusters=3"),
    "--config.eval.baselines=False",
]


@pytest.fixture
def photos(tmp_path):
    """Forty pictures of two rectangles, of several formats and sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for i in range(40):
        height, width = rng.integers(30, 50, 2)
        pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        pixels[5:20, 3:15] = rng.integers(0, 256, 3)
        ending = ("png", "jpg", "webp", "tif")[i % 4]
        Image.fromarray(pixels).save(folder / ("more" if i % 2 else "") / f"{i:02d}.{ending}")
    return folder


def test_without_masks_all_works_but_scores(photos, tmp_path, capsys):
    workdir, out = tmp_path / "run", tmp_path / "out"
    recipe = ["--config=demo:folder", f"--config.data.raw_dir={photos}"]
    common = [f"--config.data_dir={tmp_path / 'data'}", f"--workdir={workdir}", *TINY]
    assert launch.main([*recipe, *common]) == 0
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["dataset"].startswith("folder/photos-")
    assert "fg_ari" not in metrics
    assert (workdir / "figures" / "segmentation.png").exists()
    assert metrics["dataset"] in (workdir / "report.html").read_text()

    images, run = f"--images={photos}", f"--workdir={workdir}"
    assert launch.main(["--mode=segment", run, images, f"--out={out}"]) == 0
    assert len(list((out / "labels").rglob("*.png"))) == 40

    Image.new("RGB", (40, 40)).save(photos / "new.png")
    assert launch.main([*recipe, *common]) == 2, "a run belongs to the pictures that it began with"
    assert "config.data.name='folder/photos-" in capsys.readouterr().err
    assert launch.main(["--mode=evaluate", run]) == 0, "they are still prepared"


def test_bad_pictures_and_masks(photos, tmp_path, capsys):
    (photos / "masks").mkdir()
    for path in pictures.find(photos):
        labels = np.zeros(Image.open(path).size[::-1], np.uint8)
        labels[5:20, 3:15] = 1
        target = photos / "masks" / path.relative_to(photos).with_suffix(".png")
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(labels).save(target)
    (photos / "04.png").write_bytes(b"broken")
    command = [
        *("--config=demo:folder", "--mode=prepare", f"--config.data.raw_dir={photos}"),
        *(f"--config.data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"),
    ]
    assert launch.main(command) == 2
    error = capsys.readouterr().err
    assert "04.png: cannot be read as a picture" in error
    assert error.strip().count("\n") == 0
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    assert launch.main([*command, "--skip_bad"]) == 0
    assert list((tmp_path / "data").rglob("dataset_info.json"))

    labels = f"--true={photos / 'masks'}"
    assert scorer.main([f"--pred={photos / 'masks'}", labels])["pq"]["mean"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=demo:folder"], "set config.data.raw_dir"),
        (["--config=demo", "--config.data.name=folder"], "set config.data.raw_dir"),
        (["--config=demo:folder", "--config.data.raw_dir=/nothing"], "no such folder"),
        (["--config=demo:folder", "--config.data.raw_dir=TMP"], "holds no picture"),
        (["--mode=segment", "--workdir=docs/checkpoints/tetrominoes_akorn"], "pass --images="),
    ],
)
def test_what_is_missing_is_said(arguments, message, tmp_path, capsys):
    arguments = [argument.replace("TMP", str(tmp_path)) for argument in arguments]
    assert launch.main([*arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.strip().count("\n") == 0
