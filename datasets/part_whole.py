"""Part-whole scenes: two wholes made of parts made of strokes, with the truth of every level.

Synthetic, for models that make hierarchies of an image (arXiv 2203.03282); see
`datasets/scenes/part_whole.py`. The config's number is the picture's side. `label` says which two
wholes are there.
"""

import functools

import tensorflow_datasets as tfds

from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import part_whole as scenes
from datasets.schemas import Field, Schema

NUM_SCENES = 20_000
_PER_ENTITY = (1 + scenes.NUM_WHOLES,)


def _variant(size: int) -> Variant:
    schema = Schema(
        name=f"part_whole/procedural_{size}",
        image=(size, size, 3),
        num_entities=1 + scenes.NUM_WHOLES,
        attributes=(
            ("part_segmentation", Field((size, size), "uint8")),
            ("stroke_segmentation", Field((size, size), "uint8")),
            ("label", Field((), "uint8")),
            ("whole", Field(_PER_ENTITY, "uint8")),
            ("visibility", Field(_PER_ENTITY, "float32")),
        ),
    )
    return Variant(
        name=f"procedural_{size}",
        description=f"Of {size}x{size} pixels.",
        schema=schema,
        draw=functools.partial(scenes.batch, size=size),
        num_scenes=NUM_SCENES,
        vocabularies={
            "label": list(scenes.LABEL_NAMES),
            "whole": ["none", *scenes.WHOLES],
        },
    )


class PartWhole(MultiObjectBuilder):
    """Two wholes made of parts made of strokes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(_variant(size) for size in scenes.WIDTHS)
