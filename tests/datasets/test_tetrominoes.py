"""Procedural Tetrominoes: the published tile, the published law, the same scene always."""

import numpy as np
import pytest

from datasets.errors import DatasetError
from datasets.scenes import tetrominoes as scenes

NUM = 3000


@pytest.fixture(scope="module")
def drawn():
    return scenes.batch(0, np.arange(NUM))


@pytest.fixture(scope="module")
def layout():
    return scenes.sample(0, np.arange(NUM))


def pieces(layout, i):
    colors = list(scenes.COLORS.values())
    return [
        (scenes.NAMES[shape], row, column, colors[color])
        for shape, row, column, color in zip(*(layout[k][i] for k in layout), strict=True)
    ]


def test_the_published_record():
    """Pixels recovered from a published record: L0 at (0, 19), rows 0-9, columns 19-33."""
    image = scenes.draw(
        [("L0", 0, 19, (1, 0, 1)), ("J1", 12, 3, (1, 0, 0)), ("S1", 17, 20, (0, 1, 1))]
    )
    assert image.shape == (35, 35, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[0, 29], [191, 0, 191])  # the long arm's top-left corner
    np.testing.assert_array_equal(image[5, 19], [191, 0, 191])
    np.testing.assert_array_equal(image[9, 33], [127, 0, 127])
    np.testing.assert_array_equal(image[7, 21], [159, 0, 159])
    assert not image[:5, 19:29].any()
    assert (image.any(-1)).sum() == 300


def test_nineteen_fixed_tetrominoes():
    shapes = {tuple(map(tuple, np.argwhere(s[2::5, 2::5] > 0))) for s in scenes._SPRITES}
    assert len(shapes) == len(scenes.NAMES) == 19
    assert all(len(cells) == 4 for cells in shapes)


def test_batch_draws_what_draw_draws(drawn, layout):
    for i in range(0, NUM, 100):
        np.testing.assert_array_equal(drawn["image"][i], scenes.draw(pieces(layout, i)))


def test_pieces_are_whole_and_do_not_overlap(drawn):
    labels = drawn["segmentation"]
    for piece in (1, 2, 3):
        assert ((labels == piece).sum((1, 2)) == 100).all()
    np.testing.assert_array_equal(labels > 0, drawn["image"].any(-1))


def test_uniform_shapes_and_colors(layout):
    for field, options in (("shape", 19), ("color", 6)):
        counts = np.bincount(layout[field].ravel(), minlength=options)
        expected = 3 * NUM / options
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert chi2 < options + 5 * np.sqrt(2 * options), (field, counts)


def test_uniform_position_of_the_first_piece(layout):
    first = layout["shape"][:, 0] == scenes.NAMES.index("O")
    for axis in ("row", "column"):
        values = layout[axis][first, 0]
        assert values.min() <= 1
        assert values.max() >= 24
        assert values.max() <= 25
        assert abs(values.mean() - 12.5) < 4 * 7.5 / np.sqrt(first.sum())


def test_a_scene_depends_on_seed_and_index_alone(drawn):
    some = np.array([7, 1234, 2999])
    for name, values in scenes.batch(0, some).items():
        np.testing.assert_array_equal(values, drawn[name][some], err_msg=name)
    other = scenes.batch(1, np.arange(10))
    assert not (other["image"] == drawn["image"][:10]).all((1, 2, 3)).any()


def test_attributes_describe_the_picture(drawn, layout):
    assert (drawn["shape"][:, 0] == 0).all()
    np.testing.assert_array_equal(drawn["shape"][:, 1:], layout["shape"] + 1)
    np.testing.assert_allclose(drawn["x"][:, 1:] * 35, layout["column"], atol=1e-4)
    for i in range(20):
        for piece in (1, 2, 3):
            colors = np.unique(drawn["image"][i][drawn["segmentation"][i] == piece] > 0, axis=0)
            np.testing.assert_array_equal(colors[0], drawn["color"][i, piece])


def test_one_color():
    control = scenes.batch(0, np.arange(200), one_color=True)
    assert (control["color"][:, 1:] == control["color"][:, 1:2]).all()
    assert len(np.unique(control["color"][:, 1], axis=0)) == 6


def test_draw_refuses_impossible_scenes():
    with pytest.raises(DatasetError, match="piece='X'"):
        scenes.draw([("X", 0, 0, (1, 1, 1))])
    with pytest.raises(DatasetError, match="leaves the image"):
        scenes.draw([("I0", 0, 16, (1, 1, 1))])
    with pytest.raises(DatasetError, match="covers another"):
        scenes.draw([("O", 0, 0, (1, 1, 1)), ("O", 9, 9, (1, 1, 1))])
