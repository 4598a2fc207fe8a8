"""Part-whole scenes: the three levels nest, labels tell the wholes, colours do not."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.prepare import prepare
from datasets.scenes import part_whole as scenes

NUM = 600


@pytest.fixture(scope="module", params=sorted(scenes.WIDTHS))
def drawn(request):
    return scenes.batch(0, np.arange(NUM), size=request.param)


def test_levels_nest(drawn):
    """A stroke belongs to one part, a part to one whole, and all ink to all three levels."""
    wholes, parts, strokes = (
        drawn[name] for name in ("segmentation", "part_segmentation", "stroke_segmentation")
    )
    np.testing.assert_array_equal(wholes > 0, parts > 0)
    np.testing.assert_array_equal(wholes > 0, strokes > 0)
    np.testing.assert_array_equal((parts + 1) // 2, wholes)  # 1, 2 of whole 1 and 3, 4 of whole 2
    for i in range(NUM):
        pairs = np.unique(np.stack([strokes[i], parts[i]]).reshape(2, -1), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]
        assert set(np.unique(parts[i])) == {0, 1, 2, 3, 4}


def test_wholes_are_whole_and_apart(drawn):
    size = drawn["image"].shape[1]
    width = scenes.WIDTHS[size]
    blocks = {  # of each whole
        kind: sum(row.count(".") for name in (kind[0], kind[2]) for row in scenes.PARTS[name])
        for kind in scenes.WHOLES
    }
    for i in range(NUM):
        boxes = []
        for entity in (1, 2):
            kind = scenes.WHOLES[drawn["whole"][i, entity] - 1]
            rows, columns = np.nonzero(drawn["segmentation"][i] == entity)
            assert len(rows) == (18 - blocks[kind]) * width**2
            boxes.append((rows.min(), columns.min(), rows.max(), columns.max()))
        (t0, l0, b0, r0), (t1, l1, b1, r1) = boxes
        gaps = (t1 - b0, t0 - b1, l1 - r0, l0 - r1)
        assert max(gaps) > width


def test_labels_tell_the_pair(drawn):
    for label, (_, a, b) in zip(drawn["label"], drawn["whole"], strict=True):
        assert scenes.LABELS[label] == (min(a, b) - 1, max(a, b) - 1)
    counts = np.bincount(drawn["label"], minlength=len(scenes.LABELS))
    assert (counts > NUM / 6 - 5 * (NUM / 6) ** 0.5).all()


def test_colors_tell_strokes_and_nothing_else(drawn):
    image, strokes = drawn["image"], drawn["stroke_segmentation"]
    assert image[strokes == 0].max() <= scenes._GROUND
    known = set(map(tuple, scenes.COLORS.tolist()))
    of_kind = {kind: [] for kind in range(1, 5)}
    for i in range(100):
        for stroke in range(1, strokes[i].max() + 1):
            pixels = image[i][strokes[i] == stroke]
            if len(pixels):
                (color,) = set(map(tuple, pixels.tolist()))
                assert color in known
                entity = drawn["segmentation"][i][strokes[i] == stroke][0]
                of_kind[drawn["whole"][i, entity]].append(sum(color))
    means = [np.mean(values) for values in of_kind.values()]
    assert np.ptp(means) < 40, "of 200 between the colours"


def test_a_scene_depends_on_seed_and_index_alone():
    some = scenes.batch(3, np.array([5, 70]))
    more = scenes.batch(3, np.arange(100))
    for name, values in some.items():
        np.testing.assert_array_equal(values, more[name][[5, 70]])
    assert (scenes.batch(4, np.array([5]))["image"] != some["image"][:1]).any()


def test_prepared(tmp_path):
    prepare("part_whole/procedural_32", tmp_path, max_records=3)
    builder = tfds.builder("part_whole/procedural_32", data_dir=tmp_path)
    records = list(builder.as_data_source(split="train"))
    drawn = scenes.batch(0, np.arange(3))
    for i, record in enumerate(records):
        assert record.keys() == drawn.keys()
        for name, values in drawn.items():
            np.testing.assert_array_equal(record[name], values[i])
    assert builder.info.metadata["vocabularies"]["label"][0] == "T|U L|I"
