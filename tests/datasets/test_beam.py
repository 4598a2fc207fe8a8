"""Drawing on Beam's local runner; apache-beam is an optional extra."""

import importlib.util

import numpy as np
import pytest
import tensorflow_datasets as tfds

import datasets.tetrominoes
from datasets import beam
from datasets.errors import DatasetError
from datasets.scenes import tetrominoes as scenes
from datasets.sources import Source

HAS_BEAM = importlib.util.find_spec("apache_beam") is not None


def prepare_with_beam(data_dir, config="procedural", **source):
    builder = datasets.tetrominoes.Tetrominoes(
        config=config, data_dir=data_dir, source=Source(**source)
    )
    runner = tfds.download.DownloadConfig(beam_runner="DirectRunner")
    builder.download_and_prepare(file_format="array_record", download_config=runner)


@pytest.mark.skipif(not HAS_BEAM, reason="apache-beam is not installed")
def test_beam_draws_the_same_records_in_the_same_order(tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "_SCENES_PER_ELEMENT", 7)
    prepare_with_beam(tmp_path, seed=3, max_records=40)
    builder = tfds.builder("tetrominoes/procedural", data_dir=tmp_path)
    drawn = scenes.batch(3, np.arange(40))
    source = builder.as_data_source(split="train")
    assert len(source) == 40
    for i, example in enumerate(source):
        for name, value in example.items():
            np.testing.assert_array_equal(value, drawn[name][i])
    assert builder.info.metadata["origin"] == {"name": "drawn", "seed": 3, "asked": 40}


@pytest.mark.skipif(not HAS_BEAM, reason="apache-beam is not installed")
def test_published_files_are_not_for_beam(tmp_path):
    with pytest.raises(DatasetError, match="Beam draws procedural variants only"):
        prepare_with_beam(tmp_path, config="official")


@pytest.mark.skipif(HAS_BEAM, reason="apache-beam is installed")
def test_says_that_beam_is_missing():
    with pytest.raises(DatasetError, match="apache-beam is missing"):
        beam.transform(scenes.batch, range(3), 0)
