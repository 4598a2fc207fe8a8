"""Every builder: from a file of its own format, or drawn, to what a reader without it sees."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets import multi_object, schemas
from datasets.builder import MultiObjectBuilder
from datasets.prepare import prepare

FOLDER = Path(__file__).parents[2] / "datasets"
NAMES = (
    "tetrominoes",
    "multi_dsprites",
    "objects_room",
    "clevr_with_masks",
    "clevrtex",
    "clevrtex_like",
    "shapes",
    "shapes3d",
    "part_whole",
    "mnist_idx",
    "cifar",
    "cifar10_c",
    "small_norb",
    "digits",
    "imagenet_folder",
    "ravens",
    "sketchy",
    "akorn_npz",
)
FILES = {
    name if "/" in name else f"{name}/official": schema for name, schema in schemas.SCHEMAS.items()
}


def builder_classes():
    for name in NAMES:
        importlib.import_module(f"datasets.{name}")
        yield name, tfds.builder_cls(name)


def configs(condition):
    return [
        f"{name}/{variant.name}"
        for name, builder_class in builder_classes()
        for variant in builder_class.BUILDER_CONFIGS
        if condition(variant)
    ]


DRAWN = configs(lambda variant: variant.draw is not None)


def test_a_builder_is_a_file():
    for name, builder_class in builder_classes():
        assert issubclass(builder_class, MultiObjectBuilder)
        assert builder_class.name == name
        assert (FOLDER / f"{name}.py").exists()
        assert builder_class.__doc__


@pytest.mark.parametrize("name", sorted(FILES))
def test_published_file(tmp_path, random_record, name):
    schema = FILES[name]
    rng = np.random.default_rng(0)
    records = [random_record(schema, rng) for _ in range(3)]
    path = tmp_path / "raw" / schema.file  # the bucket's layout
    path.parent.mkdir(parents=True)
    multi_object.write(path, name, records)
    prepare(name, tmp_path / "data", raw_dir=tmp_path / "raw", max_records=2)
    builder = tfds.builder(name, data_dir=tmp_path / "data")
    metadata = builder.info.metadata
    assert metadata["background_ids"] == list(range(4 if "room" in name else 1))
    assert metadata["num_entities"] == schema.num_entities
    assert not metadata["procedural"]
    source = builder.as_data_source(split="train")
    assert len(source) == 2
    for got, expected in zip(source, records, strict=False):
        assert got["image"].shape == (*schema.image[:2], 3)
        np.testing.assert_array_equal(
            got["image"], np.broadcast_to(expected["image"], got["image"].shape)
        )
        for field in expected.keys() - {"image"}:
            assert got[field].dtype == expected[field].dtype
            np.testing.assert_array_equal(got[field], expected[field])


SLOW = [name for name in DRAWN if "clevr" in name]  # compiling the ray caster takes a minute


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in DRAWN]
)
def test_drawn(tmp_path, name):
    prepare(name, tmp_path, max_records=5, seed=3)
    builder = tfds.builder(name, data_dir=tmp_path)
    source = builder.as_data_source(split="train")
    metadata = builder.info.metadata
    assert metadata["procedural"]
    assert len(source) == 5
    for example in source:
        assert example["image"].dtype == np.uint8
        labels = set(np.unique(example["segmentation"])) - set(metadata["ignore_ids"])
        assert max(labels) < metadata["num_entities"]
        assert example["visibility"][list(labels)].all()
    for field, names in metadata["vocabularies"].items():
        assert max(example[field].max() for example in source) < len(names)
    assert len({example["image"].tobytes() for example in source}) == 5


def test_finite_sets_end(tmp_path, monkeypatch):
    variant = tfds.builder_cls("shapes").builder_configs["official"]
    monkeypatch.setattr(variant, "num_scenes", 7)
    prepare("shapes/official", tmp_path, max_records=100)
    source = tfds.builder("shapes/official", data_dir=tmp_path).as_data_source(split="train")
    assert len(source) == 7


def test_drawn_clevrtex_has_the_variants_of_clevrtex():
    published = tfds.builder_cls("clevrtex").BUILDER_CONFIGS
    drawn = tfds.builder_cls("clevrtex_like").BUILDER_CONFIGS
    assert {variant.name for variant in published} == {variant.name for variant in drawn}
    assert {variant.schema for variant in published} == {variant.schema for variant in drawn}


def test_codes_of_drawn_clevr():
    """The metadata name the codes that the ray caster's module gives."""
    scenes = importlib.import_module("datasets.scenes.clevr")
    names = tfds.builder_cls("clevr_with_masks").builder_configs["procedural"].vocabularies
    assert names.keys() == scenes.VOCABULARIES.keys()
    for field, words in scenes.VOCABULARIES.items():
        assert names[field][1:] == words[1:]
