"""Tetrominoes: three tetrominoes on black, 35x35 (Kabra et al. 2019).

`official` reads `tetrominoes_train.tfrecords` of the public bucket `multi-object-datasets`
(Apache-2.0); the codes of its `shape` are not documented. `procedural` draws scenes of the same
distribution, `procedural_one_color` scenes whose pieces share one colour, so that colour, which
alone nearly solves this set, tells nothing.
"""

import functools

import tensorflow_datasets as tfds

from datasets import schemas
from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import tetrominoes as scenes

NUM_SCENES = 70_384  # AKOrN's protocol: 64 + 320 + 10,000 + 60,000

_SCHEMA = schemas.find("tetrominoes")
_VOCABULARIES = {"shape": ["background", *scenes.NAMES]}


class Tetrominoes(MultiObjectBuilder):
    """Three tetrominoes on black."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(name="official", description="The published file.", schema=_SCHEMA),
        Variant(
            name="procedural",
            description="Procedural, from the published set's distribution.",
            schema=_SCHEMA,
            draw=scenes.batch,
            num_scenes=NUM_SCENES,
            vocabularies=_VOCABULARIES,
        ),
        Variant(
            name="procedural_one_color",
            description="As procedural, the three pieces of a scene in one colour.",
            schema=_SCHEMA,
            draw=functools.partial(scenes.batch, one_color=True),
            num_scenes=NUM_SCENES,
            vocabularies=_VOCABULARIES,
        ),
    )
