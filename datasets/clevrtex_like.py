"""Synthetic scenes in the style of CLEVRTex; not ClevrTex, and scores on them are not its.

The configs are ClevrTex's variants, the records have its fields, and there are as many scenes as
were published; one split holds them in index order.
"""

import functools

import tensorflow_datasets as tfds

from datasets import clevrtex
from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import clevrtex_like as scenes

NUM_SCENES = {"full": 50_000, "outd": 10_000}  # the others have 20,000
_VOCABULARIES = {name: list(words) for name, words in scenes.VOCABULARIES.items()}


class ClevrtexLike(MultiObjectBuilder):
    """Textured solids on a textured ground, drawn by a ray caster."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Variant(
            name=name,
            description=f"Synthetic scenes in the style of CLEVRTex's {name}.",
            schema=clevrtex.SCHEMA,
            draw=functools.partial(scenes.batch, variant=name),
            num_scenes=NUM_SCENES.get(name, 20_000),
            batch=16,
            vocabularies=_VOCABULARIES,
        )
        for name in scenes.VARIANTS
    )
