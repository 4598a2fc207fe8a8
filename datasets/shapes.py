"""Shapes, AKOrN's own set (Miyato et al. 2024): two to four outlines on grey, 40x40.

Nothing to download: `official` runs the published recipe with its seed, `procedural` the same
distribution with ours.
"""

import tensorflow_datasets as tfds

from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import shapes as scenes
from datasets.schemas import Field, Schema

_PER_ENTITY = (scenes.MAX_SHAPES + 1,)
_SCHEMA = Schema(
    name="shapes",
    image=(scenes.SIZE, scenes.SIZE, 3),
    num_entities=scenes.MAX_SHAPES + 1,
    ignore_ids=(scenes.OVERLAP,),
    attributes=(
        ("shape", Field(_PER_ENTITY, "uint8")),
        ("row", Field(_PER_ENTITY, "uint8")),
        ("column", Field(_PER_ENTITY, "uint8")),
        ("visibility", Field(_PER_ENTITY, "float32")),
    ),
)
_VOCABULARIES = {"shape": ["none", *scenes.NAMES]}


class Shapes(MultiObjectBuilder):
    """Two to four bright outlines on grey."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(
            name="official",
            description="The published images; 40,000 train, 1,000 validation, 1,000 test.",
            schema=_SCHEMA,
            draw=scenes.official,
            num_scenes=scenes.NUM_OFFICIAL,
            endless=False,
            vocabularies=_VOCABULARIES,
        ),
        Variant(
            name="procedural",
            description="Procedural, from the same distribution.",
            schema=_SCHEMA,
            draw=scenes.batch,
            num_scenes=scenes.NUM_OFFICIAL,
            vocabularies=_VOCABULARIES,
        ),
    )
