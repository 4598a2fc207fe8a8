"""Protocols name prepared data that exist, and parts that do not overlap."""

import importlib
import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs.data import PROCEDURAL, PROTOCOLS
from datasets import schemas

KEYS = sorted(key for key in PROTOCOLS if "/" in PROTOCOLS[key]["name"])  # not TFDS's own
SQUASHED = ("ravens/official", "ravens/first_view")  # by those who published them
WITHOUT_MASKS = ("sketchy/official",)
PARTS = ("train", "validation", "test")
FIELDS = {
    "name", "split", "crop", "size", "interpolation", "min_objects", "max_objects", "count",
    "num_clusters", *PARTS,
}  # fmt: skip


def variant(name):
    dataset, config = name.split("/")
    importlib.import_module(f"datasets.{dataset}")
    return tfds.builder_cls(dataset).builder_configs[config]


@pytest.mark.parametrize("key", KEYS)
def test_protocol(key):
    protocol = PROTOCOLS[key]
    assert protocol.keys() == FIELDS
    height, width, _ = variant(protocol["name"]).schema.image
    top, left, bottom, right = protocol["crop"] or (0, 0, height, width)
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    square = bottom - top == right - left or protocol["size"] is None
    assert square or protocol["name"] in SQUASHED
    assert protocol["interpolation"] in ("nearest", "bilinear")
    assert protocol["count"] in ("visible", "listed", "none")
    entities = variant(protocol["name"]).schema.num_entities
    assert protocol["num_clusters"] <= entities + 1 or protocol["name"] in WITHOUT_MASKS


@pytest.mark.parametrize("key", [key for key in KEYS if isinstance(PROTOCOLS[key]["split"], str)])
def test_parts_do_not_overlap(key):
    ranges = sorted(PROTOCOLS[key][part] for part in PARTS if PROTOCOLS[key][part])
    for (_, stop), (start, _) in itertools.pairwise(ranges):
        assert stop is not None
        assert stop <= start


def test_parts_of_akorn():
    """The converter's order in the file: 64 for a look, 320 test, 10,000 validation, 60,000."""
    for key in ("tetrominoes:akorn", "multi_dsprites:akorn"):
        sizes = {part: np.subtract(*PROTOCOLS[key][part][::-1]) for part in PARTS}
        assert sizes == {"train": 60_000, "validation": 10_000, "test": 320}
        assert PROTOCOLS[key]["test"][0] == 64
    top, left, bottom, right = PROTOCOLS["tetrominoes:akorn"]["crop"]
    assert (bottom - top, right - left) == (32, 32)


@pytest.mark.parametrize("name", sorted({p["name"] for p in PROTOCOLS.values()} & set(PROCEDURAL)))
def test_drawn_counterparts(name):
    published, drawn = variant(name), variant(PROCEDURAL[name])
    assert drawn.draw is not None
    if name.startswith(("movi/", "ravens/", "sketchy/", "objects_room/")):  # other solids
        assert drawn.schema.num_entities > 2
        return
    if not published.schema.num_entities:  # other pictures stand in for images with a class alone
        assert dict(published.schema.attributes).keys() & dict(drawn.schema.attributes).keys()
        return
    assert drawn.schema.image == published.schema.image
    assert drawn.schema.num_entities == published.schema.num_entities


def test_every_published_file_has_a_protocol():
    named = {protocol["name"].removesuffix("/official") for protocol in PROTOCOLS.values()}
    assert set(schemas.SCHEMAS) - named == {"multi_dsprites/binarized"}
