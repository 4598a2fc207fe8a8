"""Files of label maps, also those that other programs wrote, and every kind of bad one."""

import copy
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco_mask

from akorn_jax.errors import UserError
from akorn_jax.score import label_maps
from akorn_jax.score.__main__ import main
from datasets import coco
from datasets.errors import DatasetError

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'

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


def test_masks_are_those_that_a_model_is_trained_on():
    """Neither package may import the other, so both decode COCO's masks; here they are one."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(3, 30, 2).tolist()
        mask = rng.random((height, width)) < rng.random()
        packed = pycoco_mask.encode(np.asfortranarray(mask))
        packed["counts"] = packed["counts"].decode()
        found = label_maps.coco_mask(packed, (height, width))
        np.testing.assert_array_equal(found, mask)
        np.testing.assert_array_equal(found, coco.decode(packed, height, width))
        polygon = [rng.uniform(0, (width, height), (5, 2)).ravel().tolist()]
        np.testing.assert_array_equal(
            label_maps.coco_mask(polygon, (height, width)), coco.decode(polygon, height, width)
        )


def test_polygons_cover_what_they_surround():
    mask = label_maps.coco_mask([[10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]], (40, 50))
    assert mask.sum() == 200
    assert mask[10:20, 10:30].all()


@pytest.fixture
def maps():
    return np.random.default_rng(0).integers(0, 4, (3, 6, 5))


def packed(mask):
    found = pycoco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {**found, "counts": found["counts"].decode()}


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
        {"image_id": 5 + i, "segmentation": packed(labels == k)}
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


def test_what_does_not_pair(maps, tmp_path, caplog):
    np.savez(tmp_path / "a.npz", labels=maps)
    np.savez(tmp_path / "b.npz", labels=maps[:2])
    np.savez(tmp_path / "c.npz", labels=maps[:, :4])
    a, b, c = (tmp_path / f"{name}.npz" for name in "abc")
    with pytest.raises(UserError, match=r"has no prediction of 000002; use --skip_bad"):
        main([f"--pred={b}", f"--true={a}"])
    with pytest.raises(UserError, match="has no truth of 000002"):
        main([f"--pred={a}", f"--true={b}"])
    with pytest.raises(UserError, match=r"the truth is \[6, 5\], the prediction \[4, 5\]"):
        main([f"--pred={c}", f"--true={a}"])
    assert main([f"--pred={b}", f"--true={a}", "--skip_bad"])["ari"]["count"] == 2
    assert "skipped" in caplog.text
    with pytest.raises(UserError, match="none of the 3 pairs can be scored"):
        main([f"--pred={c}", f"--true={a}", "--skip_bad"])
    Image.fromarray(maps[0].astype(np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="no name is among those"):
        main([f"--pred={tmp_path / 'x.png'}", f"--true={a}", "--skip_bad"])


def test_bad_maps_are_passed_over_if_asked(maps, tmp_path, caplog):
    path = write("grey", maps, tmp_path)
    shutil.copytree(path, tmp_path / "true")
    (path / "000001.png").write_bytes((path / "000001.png").read_bytes()[:30])
    both = [f"--pred={path}", f"--true={tmp_path / 'true'}"]
    with pytest.raises(UserError, match=r"000001\.png: cannot be read"):
        main(both)
    assert main([*both, "--skip_bad"])["ari"]["count"] == 2
    assert "000001.png" in caplog.text


def test_frames_of_a_folder_are_a_video(maps, tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for i, labels in enumerate(maps):
            Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "x" / name / f"{i}.png")
    found = main([f"--pred={tmp_path / 'x'}", f"--true={tmp_path / 'x'}", "--videos"])
    assert found["fg_ari_video"]["count"] == 2
    assert found["fg_ari"]["count"] == 6
    Image.new("L", (9, 9)).save(tmp_path / "x" / "dog" / "3.png")
    with pytest.raises(UserError, match="frames of its video differ in size"):
        main([f"--pred={tmp_path / 'x'}", f"--true={tmp_path / 'x'}", "--videos"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", b"no zip", "x.npz: cannot be read"),
        ("x.json", b"[]", "x.json: cannot be read"),
        ("x.json", b'{"images": [], "annotations": [{"image_id": 3}]}', "missing image 3"),
        ("x.png", b"\x89PNG broken", "x.png: cannot be read"),
        (
            "x.json",
            b'{"images": [{"id": 1, "file_name": "a", "height": -1, "width": 3}], '
            b'"annotations": []}',
            "image a is of size",
        ),
        (
            "x.json",
            b'{"images": [{"id": 1, "file_name": "a", "height": 99999, "width": 99999}], '
            b'"annotations": []}',
            "image a is of size",
        ),
        ("x.txt", b"", "is neither a folder nor"),
    ],
)
def test_bad_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        dict(label_maps.read(tmp_path / name))


ODD = (
    None,
    -1,
    3.5,
    1e300,
    True,
    "",
    "x",
    "../../x",
    [],
    [[]],
    [[1, 2]],
    {},
    {"counts": "6"},
    2**70,
)


def damaged(value, rng):
    """JSON with one node replaced, or gone."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[rng.integers(len(keys))]
        changed = copy.copy(value)
        if rng.random() < 0.15:
            del changed[key]
        else:
            changed[key] = damaged(value[key], rng)
        return changed
    return ODD[rng.integers(len(ODD))]


def test_damaged_coco_files_are_named_or_maps(maps, tmp_path):
    """By both readers of such files, and nothing is decoded from beyond its memory."""
    content = json.loads(write("coco", maps, tmp_path).read_text())
    pictures = [tmp_path / f"{i:06d}.jpg" for i in range(len(maps))]
    rng = np.random.default_rng(0)
    file, lines = tmp_path / "x.json", []
    for _ in range(600):
        file.write_text(json.dumps(damaged(content, rng)))
        try:
            for labels in label_maps.read(file).values():
                assert labels.max(initial=0) <= 3
        except UserError as error:
            lines.append(str(error))
        try:
            found = coco.read([file], tmp_path, pictures)
            for path in found.sizes:
                for mask, _ in found.objects(path, 6, 5):
                    assert mask.shape == (6, 5)
        except DatasetError as error:
            lines.append(str(error))
    assert len(lines) > 600
    assert all(str(tmp_path) in line and "\n" not in line for line in lines)


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
        dict(label_maps.read(tmp_path / "x.png"))
