"""ClevrTex from folders and archives of its own file format."""

import json
import os
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from datasets import clevrtex
from datasets.errors import DatasetError
from datasets.prepare import prepare
from tests.mutants import mutants

COUNT = 20


def make_scene(folder, variant, index):
    """One scene with 1 + index % 3 objects, as the published generator writes it."""
    rng = np.random.default_rng(index)
    count = 1 + index % 3
    chunk = folder / str(index // 10)
    chunk.mkdir(parents=True, exist_ok=True)
    stem = f"CLEVRTEX_{variant}_{index:06d}"
    image = rng.integers(0, 256, (240, 320, 4), dtype=np.uint8)
    Image.fromarray(image).save(chunk / f"{stem}.png", compress_level=1)
    labels = np.zeros((240, 320), np.uint8)
    for entity in range(1, count + 1):
        labels[20 * entity : 20 * entity + 15, 10:60] = entity
    flat = Image.fromarray(labels, mode="P")
    flat.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    flat.save(chunk / f"{stem}_flat.png")
    (chunk / f"{stem}_depth_0001.png").write_bytes(b"not read")
    objects = [
        {
            "shape": ("cube", "monkey")[k % 2], "size": "large", "material": f"stone {k}",
            "rotation": 10.0 * k, "3d_coords": [k, 1, 2], "pixel_coords": [3, k, 4], "index": k + 1,
            "color": None,
        }
        for k in range(count)
    ]  # fmt: skip
    scene = {"ground_material": "grass", "objects": objects, "image_index": index}
    (chunk / f"{stem}.json").write_text(json.dumps(scene))
    return image[..., :3], labels


@pytest.fixture
def raw_dir(tmp_path):
    folder = tmp_path / "raw" / "clevrtex_full"
    for index in range(COUNT):
        make_scene(folder, "full", index)
    return tmp_path / "raw"


def load(data_dir, name="clevrtex/full"):
    return tfds.builder(name, data_dir=data_dir)


def check(builder, raw_dir, tmp_path):
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 16, "validation": 2, "test": 2}
    names = builder.info.metadata["vocabularies"]
    assert names["material"] == ["none", "grass", "stone 0", "stone 1", "stone 2"]
    assert names["shape"] == ["none", "cube", "monkey"]
    for split, first in (("test", 0), ("validation", 2), ("train", 4)):
        for index, got in enumerate(builder.as_data_source(split=split), first):
            image, labels = make_scene(tmp_path / "again", "full", index)
            np.testing.assert_array_equal(got["image"], image)
            np.testing.assert_array_equal(got["segmentation"], labels)
            count = 1 + index % 3
            assert got["visibility"].sum() == 1 + count
            assert [names["material"][c] for c in got["material"][: 1 + count]] == [
                "grass",
                *(f"stone {k}" for k in range(count)),
            ]
            np.testing.assert_array_equal(got["coords"][count], [count - 1, 1, 2])
            assert got["rotation"][count] == 10 * (count - 1)


def test_folder(tmp_path, raw_dir):
    prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)
    check(load(tmp_path / "data"), raw_dir, tmp_path)


def test_archives(tmp_path, raw_dir):
    """Two parts, the files of some scenes on both sides of the cut."""
    paths = sorted(p for p in raw_dir.rglob("*") if p.is_file())
    archives = tmp_path / "archives"
    archives.mkdir()
    for part, chosen in enumerate((paths[:33], paths[33:]), 1):
        with tarfile.open(archives / f"clevrtex_full_part{part}.tar.gz", "w:gz") as tar:
            for path in chosen:
                tar.add(path, path.relative_to(raw_dir))
    data_dir = tmp_path / "data"
    path = prepare("clevrtex/full", data_dir, raw_dir=archives)
    check(load(data_dir), raw_dir, tmp_path)
    assert sorted(p.name for p in (data_dir / "clevrtex").iterdir()) == ["full"]
    assert not [p for p in path.iterdir() if p.is_dir()]
    archive = archives / "clevrtex_full_part2.tar.gz"
    whole = archive.read_bytes()
    half = len(whole) // 2
    for damaged in (
        b"\x1f\x8b broken",
        whole[:half],
        whole[:half] + b"\xff" * 64 + whole[half:],
        whole[:-8] + bytes(8),  # another checksum
    ):
        archive.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"part2\.tar\.gz: truncated, damaged"):
            prepare("clevrtex/full", tmp_path / "other", raw_dir=archives)


def test_kept_until_the_files_change(tmp_path, raw_dir):
    path = prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)
    first = (path / "dataset_info.json").stat().st_ino
    prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)
    assert (path / "dataset_info.json").stat().st_ino == first
    make_scene(raw_dir / "clevrtex_full", "full", COUNT)
    prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)
    assert load(tmp_path / "data").info.splits["train"].num_examples == 17


def test_first_records_only(tmp_path, raw_dir):
    prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir, max_records=10)
    assert load(tmp_path / "data").info.splits["train"].num_examples == 8


def test_outd_is_all_test(tmp_path):
    for index in range(3):
        make_scene(tmp_path / "raw", "outd", index)
    prepare("clevrtex/outd", tmp_path / "data", raw_dir=tmp_path / "raw")
    assert set(load(tmp_path / "data", "clevrtex/outd").info.splits) == {"test"}


def first(raw_dir, suffix):
    return next(raw_dir.rglob(f"*_000003{suffix}"))


def test_what_is_wrong_is_named(tmp_path, raw_dir):
    def refused(match, name="clevrtex/full"):
        with pytest.raises(DatasetError, match=match) as info:
            prepare(name, tmp_path / "data", raw_dir=raw_dir)
        assert "\n" not in str(info.value)
        assert not list((tmp_path / "data").rglob("*.json"))

    refused("neither a folder nor archives clevrtex_camo", "clevrtex/camo")
    flat = first(raw_dir, "_flat.png")
    content = flat.read_bytes()
    flat.write_bytes(content[:-40])
    refused("_000003_flat.png: not a readable PNG")
    Image.fromarray(np.full((240, 320), 9, np.uint8)).save(flat)
    refused("has label 9, its .json lists 1 objects")
    Image.fromarray(np.zeros((240, 320, 3), np.uint8)).save(flat)
    refused("320x240 pixels of mode RGB")
    flat.unlink()
    refused(r"_000003_flat\.png is missing")
    flat.write_bytes(content)
    first(raw_dir, ".json").write_text('{"objects": []}')
    refused(r"_000003\.json: not a ClevrTex scene \(KeyError: 'ground_material'\)")
    first(raw_dir, ".json").write_text("<html>")
    refused(r"_000003\.json: not a ClevrTex scene")


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def test_long_text_in_a_picture_is_read_over(tmp_path, raw_dir):
    """As Blender's scripts write it."""
    path = first(raw_dir, ".png")
    content = path.read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20)))
    path.write_bytes(content[:33] + text + content[33:])
    prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)


@pytest.mark.parametrize("side", [20_000, 13_000, 319])
def test_a_picture_of_another_size_is_named(side, tmp_path, raw_dir):
    path = first(raw_dir, ".png")
    content = path.read_bytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(content[:8] + header + content[33:])
    with pytest.raises(DatasetError, match=r"_000003\.png: "):
        prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "7", "null", '"text"', "[" * 100_000, "\ud800"),
        '{"ground_material": "a", "objects": {"0": {}}}',
        '{"ground_material": [], "objects": []}',
        '{"ground_material": "a", "objects": [7]}',
        '{"ground_material": "a", "objects": [{"rotation": "x"}]}',
    ],
)
def test_json_of_another_type_is_named(content, tmp_path, raw_dir):
    first(raw_dir, ".json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(DatasetError, match=r"_000003\.json: not a ClevrTex scene") as error:
        prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)
    assert len(str(error.value)) < 500


def test_a_scene_that_is_there_twice_is_named(tmp_path, raw_dir):
    path = first(raw_dir, ".png")
    (raw_dir / "clevrtex_full" / "copy").mkdir()
    shutil.copy(path, raw_dir / "clevrtex_full" / "copy")
    with pytest.raises(DatasetError, match=r"_000003\.png: is there twice"):
        prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)


@pytest.mark.timeout(60)
def test_a_pipe_in_the_place_of_a_picture_is_missing(tmp_path, raw_dir):
    path = first(raw_dir, ".png")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DatasetError, match=r"_000003\.png is missing"):
        prepare("clevrtex/full", tmp_path / "data", raw_dir=raw_dir)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", "_flat.png", ".json"])
def test_mutants_are_read_or_named(suffix, tmp_path):
    """Seeded damage of every kind to one scene: an example, or one line with the file."""
    scene = make_scene(tmp_path / "raw", "full", 0)
    files = {s: next((tmp_path / "raw").rglob(f"*_000000{s}")) for s in clevrtex._KINDS}
    codes = {
        field: {name: code for code, name in enumerate(names)}
        for field, names in clevrtex._vocabularies([files]).items()
    }
    del scene
    refused = []
    for mutant in mutants(files[suffix].read_bytes(), 1700):
        files[suffix].write_bytes(mutant)
        try:
            clevrtex._vocabularies([files])
            clevrtex._read(files, codes)
        except DatasetError as error:
            refused.append(str(error))
    assert len(refused) > 300
    for message in refused:
        assert files[suffix].name in message or "label" in message
        assert "\n" not in message
