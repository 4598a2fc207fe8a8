"""A folder is a dataset: pictures of every mode and size, masks of every kind, changes."""

import json
import os
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from pycocotools import mask as coco_mask

from datasets import coco, folder, masks, pictures
from datasets.errors import DatasetError
from datasets.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'

SIZE = 16


def name(path, crop=None):
    return f"folder/{folder.key_of(path, SIZE, crop)}"


def prepared(path, tmp_path, **options):
    key = name(path, options.pop("crop", None))
    prepare(key, tmp_path / "data", raw_dir=path, **options)
    builder = tfds.builder(key, data_dir=tmp_path / "data")
    return {split: builder.as_data_source(split) for split in builder.info.splits}


def count(splits):
    return sum(len(source) for source in splits.values())


@pytest.fixture
def mine(tmp_path):
    """61 pictures, one of them in a folder below."""
    path = tmp_path / "mine"
    (path / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(60):
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02d}.png")
    Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)).save(path / "sub" / "grey.jpg")
    return path


def test_splits_by_path(mine, tmp_path):
    splits = prepared(mine, tmp_path)
    assert count(splits) == 61
    assert len(splits["train"]) > 40
    before = {p: folder.part_of(p, mine) for p in pictures.find(mine)}
    Image.new("RGB", (9, 9)).save(mine / "another.png")
    after = {p: folder.part_of(p, mine) for p in pictures.find(mine)}
    assert before.items() <= after.items(), "no picture moves when another comes"
    assert count(prepared(mine, tmp_path)) == 62, "a changed folder is read again"


def test_the_contents_are_the_key(mine, tmp_path):
    key = name(mine)
    path = prepare(key, tmp_path / "data", raw_dir=mine)
    made = (path / "dataset_info.json").stat().st_ino
    os.utime(mine / "03.png", (0, 0))
    moved = mine.rename(tmp_path / "elsewhere").rename(tmp_path / "mine")
    (moved / "notes.txt").write_text("no picture")
    assert name(moved) == key, "touched, moved, or beside other files: the same"
    prepare(key, tmp_path / "data", raw_dir=moved)
    assert (path / "dataset_info.json").stat().st_ino == made, "nothing is prepared again"

    stat = (moved / "03.png").stat()
    content = bytearray((moved / "03.png").read_bytes())
    content[-20] ^= 1  # of the checksum, which Pillow checks
    (moved / "03.png").write_bytes(content)
    os.utime(moved / "03.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert name(moved) != key, "the same size and time, another content"
    prepare(key, tmp_path / "data", raw_dir=moved)  # what was prepared stays
    with pytest.raises(DatasetError, match="has changed since"):
        prepare(key, tmp_path / "other", raw_dir=moved)


def test_crops_before_it_scales(mine, tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 30:50] = (200, 100, 50)
    for path in pictures.find(mine):
        Image.fromarray(pixels).save(path, quality=100)
    splits = prepared(mine, tmp_path, crop=(10, 30, 30, 50))
    for source in splits.values():
        assert np.abs(source[0]["image"].astype(int) - [200, 100, 50]).max() < 3
    assert "_crop10-30-30-50_16" in name(mine, (10, 30, 30, 50))
    with pytest.raises(DatasetError, match=r"00\.png: is 40x60, too small for config.data.crop"):
        prepared(mine, tmp_path, crop=(0, 0, 41, 41))
    with pytest.raises(DatasetError, match=r"config.data.crop=\(5, 0, 5, 9\): give"):
        name(mine, (5, 0, 5, 9))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_mode(mode, tmp_path):
    grey = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (20, 1))
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(grey).convert("RGB" if mode in ("P", "CMYK") else mode)
        picture = picture.convert(mode)
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    picture.save(path)
    pixels = np.asarray(pictures.read(path))
    assert pixels.shape == (20, 20, 3)
    assert pixels[:, 0].mean() < 40
    assert pixels[:, -1].mean() > 215


def test_exif_turns_pictures(tmp_path):
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    turned = np.asarray(pictures.read(tmp_path / "x.jpg"))
    assert turned.shape == (20, 10, 3)
    assert turned[:8].mean() > 240
    assert turned[12:].mean() < 15


LABELS = np.zeros((12, 16), np.uint8)
LABELS[:, :8] = 5
LABELS[:6, 8:] = 9
LABELS[9:, 8:] = 255


@pytest.fixture
def alike(tmp_path):
    """20 pictures that `LABELS` fits."""
    path = tmp_path / "alike"
    path.mkdir()
    for i in range(20):
        Image.new("RGB", (16, 12), (i, 0, 0)).save(path / f"{i:02d}.png")
    return path


def write_masks(path, kind):
    """`LABELS` for every picture; 255 is an object in grey maps and nobody's elsewhere."""
    annotations, images = [], []
    for number, picture in enumerate(pictures.find(path)):
        target = path / "masks" / picture.stem
        target.parent.mkdir(exist_ok=True)
        if kind == "files":
            target.mkdir()
            Image.fromarray((LABELS == 5).astype(np.uint8) * 255).save(target / "a.png")
            Image.fromarray(LABELS == 9).save(target / "b.png")
        elif kind == "16 bit":
            Image.fromarray(LABELS.astype(np.uint16) * 256).save(f"{target}.png")
        elif kind in ("grey", "palette"):
            mask = Image.fromarray(LABELS, "L" if kind == "grey" else "P")
            if kind == "palette":
                mask.putpalette(list(range(256)) * 3)
            mask.save(f"{target}.png")
        else:
            images.append({"id": number, "file_name": picture.name, "height": 12, "width": 16})
            regions = [
                [[0, 0, 8, 0, 8, 12, 0, 12]],
                coco_mask.encode(np.asfortranarray(LABELS == 9)),
                {"size": [12, 16], "counts": runs(LABELS == 255)},
            ]
            regions[1]["counts"] = regions[1]["counts"].decode()
            for i, region in enumerate(regions):
                annotation = {"id": 3 * number + i, "image_id": number, "segmentation": region}
                annotations.append({**annotation, "iscrowd": int(i == 2)})
    if kind == "coco":
        content = {"images": images, "annotations": annotations}
        (path / "masks" / "instances.json").write_text(json.dumps(content))


def runs(mask):
    """COCO's plain run lengths, one pixel at a time."""
    lengths, last = [0], False
    for value in mask.T.ravel().tolist():
        if value != last:
            lengths.append(0)
        lengths[-1] += 1
        last = value
    return lengths


@pytest.mark.parametrize("kind", ["grey", "16 bit", "palette", "files", "coco"])
def test_masks_follow_their_pictures(kind, alike, tmp_path):
    write_masks(alike, kind)
    splits = prepared(alike, tmp_path)
    info = tfds.builder(name(alike), data_dir=tmp_path / "data").info
    assert list(info.metadata["ignore_ids"]) == [masks.VOID]
    as_object = kind in ("grey", "16 bit")
    last = {"files": 0}.get(kind, 3 if as_object else masks.VOID)
    for source in splits.values():
        for example in source:
            found = np.asarray(example["segmentation"])
            assert found.shape == (SIZE, SIZE)
            assert found[-1, 0] == 1
            assert found[0, -1] == 2
            assert found[9, -1] == 0
            assert found[-1, -1] == last
            assert example["visibility"].sum() == 3 + as_object


def test_without_masks_there_is_no_segmentation(mine, tmp_path):
    assert prepared(mine, tmp_path)["train"][0].keys() == {"image"}


def test_coco_names_find_their_pictures(alike, tmp_path):
    """In a folder below, as in COCO itself; and never outside."""
    write_masks(alike, "coco")
    (alike / "train2017").mkdir()
    for path in alike.glob("*.png"):
        path.rename(alike / "train2017" / path.name)
    (alike / "annotations").mkdir()
    (alike / "masks" / "instances.json").rename(alike / "annotations" / "instances_train.json")
    (alike / "masks").rmdir()
    (alike / "annotations" / "captions_train.json").write_text("[]")
    assert "segmentation" in prepared(alike, tmp_path)["train"][0]

    file = alike / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())

    def refused(message, **change):
        changed = json.loads(json.dumps(content))
        changed["images"][0] |= change.get("image", {})
        changed["annotations"][0] |= change.get("annotation", {})
        file.write_text(json.dumps(changed))
        with pytest.raises(DatasetError, match=message) as error:
            prepared(alike, tmp_path)
        assert "\n" not in str(error.value)

    for outside in ("../00.png", "/etc/00.png", "a/../../00.png", "..\\00.png"):
        refused("leaves the folder", image={"file_name": outside})
    refused(r"tells of 77\.png, not there .*--skip_bad", image={"file_name": "77.png"})
    refused("listed twice", image={"file_name": "01.png"})
    refused(r"00\.png: is 12x16 .* but 13x16 in", image={"height": 13})
    refused("is of unknown image 99", annotation={"image_id": 99})
    refused(r"annotation 0 of 00\.png .*fewer than three", annotation={"segmentation": [[1, 2]]})
    refused("leaves the picture", annotation={"segmentation": [[0, 0, 9, 1e9, 3, 3]]})
    refused("has no mask", annotation={"segmentation": []})
    short = {"size": [12, 16], "counts": [3, 4]}
    refused("run lengths do not fill 12x16", annotation={"segmentation": short})
    Image.new("RGB", (3, 3)).save(alike / "more.png")
    refused(r"more\.png: the COCO files have no image of this name")
    (alike / "more").mkdir()
    (alike / "more.png").rename(alike / "more" / "00.png")
    refused(r"'00\.png' fits 2 pictures")


def test_skip_bad_goes_on(alike, tmp_path, caplog):
    write_masks(alike, "palette")
    (alike / "03.png").write_bytes((alike / "03.png").read_bytes()[:40])
    Image.new("L", (3, 3)).save(alike / "masks" / "04.png")
    (alike / "masks" / "05.png").unlink()
    with pytest.raises(DatasetError, match=r"0[345]\.png: .*--skip_bad"):
        prepared(alike, tmp_path)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    splits = prepared(alike, tmp_path, skip_bad=True)
    found = {int(e["image"][0, 0, 0]) for source in splits.values() for e in source}
    assert found == {*range(20)} - {3, 4, 5}
    for i in (3, 4, 5):
        assert f"0{i}.png" in caplog.text
    with pytest.raises(DatasetError, match="--skip_bad"):
        prepared(alike, tmp_path)  # what lacks records serves nobody who did not ask for that


def test_coco_decodes_as_its_authors_do():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 30, 2).tolist()
        mask = rng.random((height, width)) < rng.random()
        packed = coco_mask.encode(np.asfortranarray(mask))
        packed["counts"] = packed["counts"].decode()
        np.testing.assert_array_equal(coco.decode(packed, height, width), mask)
        plain = {"size": [height, width], "counts": runs(mask)}
        np.testing.assert_array_equal(coco.decode(plain, height, width), mask)


def test_damaged_run_lengths_are_refused_or_whole():
    """pycocotools reads beyond its memory for some of these."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        text = "".join(chr(c) for c in rng.integers(40, 120, rng.integers(0, 12)))
        try:
            mask = coco.decode({"size": [5, 6], "counts": text}, 5, 6)
        except ValueError:
            continue
        assert mask.shape == (5, 6)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_pictures_are_one_line_or_pictures(tmp_path):
    """Bytes changed, lost and added in files of every format."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
    refused = []
    for ending in ("png", "jpg", "webp", "tif", "bmp"):
        path = tmp_path / f"x.{ending}"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(path, exif=exif)
        content = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for _ in range(rng.integers(1, 5)):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(1, 2 * len(damaged))])
            try:
                assert pictures.read(path).mode == "RGB"
            except DatasetError as error:
                refused.append(str(error))
    assert len(refused) > 150
    assert all(str(tmp_path) in line and "\n" not in line for line in refused)


def test_bad_input_is_one_line(mine, tmp_path):
    def refused(message, path=mine):
        with pytest.raises(DatasetError, match=message) as error:
            prepare(name(path), tmp_path / "data", raw_dir=path)
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "data").rglob("dataset_info.json"))

    with pytest.raises(DatasetError, match=r"raw_dir=.*nothing: no such folder"):
        folder.key_of(tmp_path / "nothing", SIZE)
    with pytest.raises(DatasetError, match=r"set config.data.size"):
        folder.key_of(mine, None)
    (tmp_path / "empty").mkdir()
    refused("holds no picture", tmp_path / "empty")
    (mine / "03.png").write_bytes(b"no picture")
    refused(r"03\.png: cannot be read as a picture")
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(mine / "03.png", save_all=True, append_images=frames[1:])
    refused(r"03\.png: cannot be read as a picture \(it is animated")
    bomb = np.zeros((1, 1), np.uint8)
    Image.fromarray(bomb).save(mine / "03.png")
    content = bytearray((mine / "03.png").read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2  # the size, and its checksum below
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (mine / "03.png").write_bytes(content)
    refused(r"03\.png: cannot be read as a picture \(Image size .* exceeds limit")
    (mine / "03.png").unlink()
    (mine / "masks").mkdir()
    refused(r"masks: holds neither")
    Image.new("L", (3, 3)).save(mine / "masks" / "00.png")
    refused(r"masks/00\.png: cannot be read as a mask \(it is \(3, 3\), the picture")
    Image.new("RGB", (16, 12)).save(mine / "masks" / "00.png")
    refused(r"masks/00\.png: .*mode RGB has no ids")
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16)).save(mine / "masks" / "00.png")
    refused(r"masks/00\.png: has 191 objects, at most 32 fit")
    (mine / "masks" / "00.png").unlink()
    Image.new("L", (16, 12)).save(mine / "masks" / "01.png")
    refused(r"00\.png: has no mask; neither")
    (mine / "all.json").write_text('{"images": [], "annotations": []}')
    refused(r"has masks as masks/\*\.png and as all\.json; remove one kind")
    (mine / "all.json").write_text('{"images": [')
    refused(r"all\.json: cannot be read as JSON")
