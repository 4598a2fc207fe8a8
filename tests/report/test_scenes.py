import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.evaluation.plots import colorize
from akorn_jax.report import scenes

RNG = np.random.default_rng(0)


def examples(num=4, side=12, segments=3):
    labels = RNG.integers(0, segments, (num, side, side)).astype(np.uint8)
    images = RNG.integers(0, 256, (num, side, side, 3)).astype(np.uint8)
    return Examples(
        images=images,
        segmentation=labels,
        attributes={},
        records=np.arange(num) + 100,
        counts=np.full(num, segments - 1),
    )


def decode(uri):
    kind, data = re.fullmatch(r"data:image/(\w+);base64,(.+)", uri).groups()
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_spread_takes_the_ends_and_even_steps_between():
    values = RNG.permutation(101) / 100
    chosen = scenes.spread(values, 5)
    np.testing.assert_allclose(values[chosen], [0, 0.25, 0.5, 0.75, 1])


def test_spread_leaves_out_what_has_no_score():
    assert scenes.spread(np.array([0.5, np.nan, 0.1]), 8) == [2, 0]
    assert scenes.spread(np.array([np.nan]), 8) == []


def test_small_pictures_are_exact_and_large_ones_small():
    small = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    kind, pixels = decode(scenes.picture(small))
    assert kind == "png"
    np.testing.assert_array_equal(pixels, small)
    smooth = np.tile(np.arange(128, dtype=np.uint8)[:, None, None], (1, 128, 3))
    kind, pixels = decode(scenes.picture(smooth))
    assert kind == "webp"
    assert np.abs(pixels.astype(int) - smooth).max() < 10


def test_label_pictures_are_exact():
    labels = RNG.integers(0, 40, (30, 20))
    np.testing.assert_array_equal(decode(scenes.label_picture(labels))[1], colorize(labels))


def test_an_outline_follows_every_border_once():
    labels = RNG.integers(0, 3, (9, 7))
    rows, columns = np.zeros((10, 7), int), np.zeros((9, 8), int)
    for x, y, command, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", scenes.outline(labels)):
        x, y, length = int(x), int(y), int(length)
        if command == "h":
            rows[y, x : x + length] += 1
        else:
            columns[y : y + length, x] += 1
    np.testing.assert_array_equal(rows[1:-1], labels[1:] != labels[:-1])
    np.testing.assert_array_equal(columns[:, 1:-1], labels[:, 1:] != labels[:, :-1])
    assert not rows[[0, -1]].any()
    assert not columns[:, [0, -1]].any()


def test_large_scenes_are_shrunk_alike():
    labels = np.zeros((480, 640), np.uint8)
    assert max(scenes.shrink(labels).shape) <= scenes.MAX_SIDE
    image = np.full((480, 640, 3), 7, np.uint8)
    small = scenes.shrink_image(image)
    assert small.shape[:2] == scenes.shrink(labels).shape
    assert (small == 7).all()


def test_a_card_names_predicted_segments_after_true_ones():
    data = examples()
    renamed = np.array([2, 0, 1])[data.segmentation]
    card = scenes.draw(data, renamed, {"fg_ari": np.array([1, 1, np.nan, 1])}, 2)
    assert card.pred == card.true
    assert card.pred_outline == card.true_outline
    assert (card.index, card.record, card.num_objects) == (2, 102, 2)
    assert card.scores == {"fg_ari": None}


def test_the_gallery_stays_in_its_budget(monkeypatch):
    data = examples(num=20, side=64)
    scores = {"fg_ari": np.linspace(0, 1, 20)}
    full = scenes.gallery(data, data.segmentation, scores, "fg_ari")
    assert len(full) == 20
    monkeypatch.setattr(scenes, "BUDGET", sum(card.num_bytes() for card in full) // 2)
    half = scenes.gallery(data, data.segmentation, scores, "fg_ari")
    assert 8 <= len(half) <= 10
    assert sum(card.num_bytes() for card in half) <= scenes.BUDGET * 1.1
    assert (half[0].index, half[-1].index) == (0, 19)


@pytest.mark.parametrize("width", [8, 16, 100])
def test_a_film_repeats_the_borders_of_its_frames(width):
    frames = RNG.integers(0, 256, (3, 4, width, 3)).astype(np.uint8)
    film = scenes.film(frames)
    _, pixels = decode(film.uri)
    visible = round(1 / film.pad)
    assert pixels.shape[1] == 3 * (visible + 2)
    for number, frame in enumerate(frames):
        part = pixels[:, number * (visible + 2) : (number + 1) * (visible + 2)]
        scale = visible // width
        np.testing.assert_array_equal(part[::scale, 1:-1:scale], frame)
        np.testing.assert_array_equal(part[:, 0], part[:, 1])
        np.testing.assert_array_equal(part[:, -1], part[:, -2])
