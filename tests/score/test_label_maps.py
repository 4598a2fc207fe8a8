"""Files of label maps, also those that other programs wrote, and every kind of bad one."""

import json

import numpy as np
import pytest
from PIL import Image

from akorn_jax.errors import UserError
from akorn_jax.score import label_maps
from akorn_jax.score.__main__ import main

# Written by pycocotools 2.0.10, with the areas that it counts.
COMPRESSED = [
    ([5, 7], "3110001020O0N31M11O", 13),
    (
        [40, 33],
        "[6721e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O"
        "[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1>LC3O1>LC3O1>LC3O1>LC3O1>LC3O1>Ld000000",
        411,
    ),
]
ROWS = ["0111000", "0000101", "0100111", "1000100", "0001100"]


@pytest.mark.parametrize(("size", "counts", "area"), COMPRESSED)
def test_compressed_run_lengths(size, counts, area):
    mask = label_maps.coco_mask({"size": size, "counts": counts}, tuple(size))
    assert mask.sum() == area
    if size == [5, 7]:
        assert ["".join("01"[int(x)] for x in row) for row in mask] == ROWS


def test_run_lengths_are_the_inverse():
    rng = np.random.default_rng(0)
    for mask in (*(rng.random((20, 9, 7)) < 0.5), np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        found = label_maps.coco_mask(label_maps.run_lengths(mask), mask.shape)
        np.testing.assert_array_equal(found, mask)


def test_polygons_cover_what_they_surround():
    mask = label_maps.coco_mask([[10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]], (40, 50))
    assert mask[11:20, 11:30].all()
    assert not mask[:10].any()
    assert not mask[:, 31:].any()


@pytest.fixture
def maps():
    return np.random.default_rng(0).integers(0, 4, (3, 6, 5))


def write(kind, maps, path):
    if kind == "npz":
        np.savez(path / "x.npz", labels=maps)
        return path / "x.npz"
    if kind in ("palette", "grey"):
        for i, labels in enumerate(maps):
            picture = Image.fromarray(labels.astype(np.uint8), "L" if kind == "grey" else "P")
            if kind == "palette":
                picture.putpalette(list(range(256)) * 3)
            (path / "x").mkdir(exist_ok=True)
            picture.save(path / "x" / f"{i:06d}.png")
        return path / "x"
    images = [
        {"id": 5 + i, "file_name": f"{i:06d}.jpg", "height": 6, "width": 5}
        for i in range(len(maps))
    ]
    annotations = [
        {"image_id": 5 + i, "segmentation": label_maps.run_lengths(labels == k)}
        for i, labels in enumerate(maps)
        for k in (1, 2, 3)
    ]
    (path / "x.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return path / "x.json"


@pytest.mark.parametrize("kind", ["npz", "palette", "grey", "coco"])
def test_all_formats_are_one(kind, maps, tmp_path):
    found = label_maps.read(write(kind, maps, tmp_path))
    assert sorted(found) == ["000000", "000001", "000002"]
    for i, labels in enumerate(maps):
        np.testing.assert_array_equal(found[f"{i:06d}"], labels)


def test_soft_masks_win_by_size(tmp_path):
    masks = np.random.default_rng(0).random((2, 3, 4, 4))
    np.savez(tmp_path / "x.npz", masks=masks)
    found = label_maps.read(tmp_path / "x.npz")
    np.testing.assert_array_equal(found["000001"], masks[1].argmax(0))


def test_the_command(maps, tmp_path, capsys):
    path = write("npz", maps, tmp_path)
    found = main([f"--pred={path}", f"--true={path}", f"--json={tmp_path / 'out.json'}"])
    assert found["fg_ari"]["mean"] == found["pq"]["mean"] == 1
    assert json.loads((tmp_path / "out.json").read_text()) == found
    assert "ClevrTex benchmark" in capsys.readouterr().out


def test_what_does_not_pair(maps, tmp_path):
    np.savez(tmp_path / "a.npz", labels=maps)
    np.savez(tmp_path / "b.npz", labels=maps[:2])
    np.savez(tmp_path / "c.npz", labels=maps[:, :4])
    with pytest.raises(UserError, match="has no prediction of 000002"):
        main([f"--pred={tmp_path / 'b.npz'}", f"--true={tmp_path / 'a.npz'}"])
    with pytest.raises(UserError, match="has no truth of 000002"):
        main([f"--pred={tmp_path / 'a.npz'}", f"--true={tmp_path / 'b.npz'}"])
    with pytest.raises(UserError, match=r"the truth is \[6, 5\], the prediction \[4, 5\]"):
        main([f"--pred={tmp_path / 'c.npz'}", f"--true={tmp_path / 'a.npz'}"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", b"no zip", "x.npz: cannot be read"),
        ("x.json", b"[]", "x.json: cannot be read"),
        ("x.json", b'{"images": [], "annotations": [{"image_id": 3}]}', "missing image 3"),
        ("x.png", b"\x89PNG broken", "x.png: cannot be read"),
        ("x.txt", b"", "is neither a folder nor"),
    ],
)
def test_bad_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        label_maps.read(tmp_path / name)


def test_other_bad_input(tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder"):
        label_maps.read(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"holds no .png"):
        label_maps.read(tmp_path)
    np.savez(tmp_path / "x.npz", labels=np.zeros((2, 3, 3)))
    with pytest.raises(UserError, match="not integers"):
        label_maps.read(tmp_path / "x.npz")
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match=r"mode RGB has no ids"):
        label_maps.read(tmp_path / "x.png")
