"""CLEVR with masks: three to ten solids in a studio, 240x320 (Kabra et al. 2019).

`official` reads `clevr_with_masks_train.tfrecords` of the public bucket `multi-object-datasets`
(Apache-2.0). Its codes are not documented: they follow the order of first appearance in the file
and were decoded from its first record; gray, purple and yellow are inferred. `procedural` draws
scenes of the same distribution with a ray caster; its codes have their own order, see the metadata.
`procedural_half` draws the same scenes at 120x160, in a quarter of the time: for what is shrunk
anyway, on few cores.
"""

import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds

from datasets import schemas
from datasets.builder import MultiObjectBuilder, Variant
from datasets.sources import Arrays

NUM_SCENES = 100_000  # as many as were published; `max_records` draws fewer

_SCHEMA = schemas.find("clevr_with_masks")
_VOCABULARIES = {
    "size": ["none", "large", "small"],
    "material": ["none", "rubber", "metal"],
    "shape": ["none", "sphere", "cylinder", "cube"],
    "color": ["none", "red", "cyan", "green", "blue", "brown", "gray", "purple", "yellow"],
}
_DRAWN_VOCABULARIES = {
    "size": ["none", "large", "small"],
    "material": ["none", "rubber", "metal"],
    "shape": ["none", "cube", "sphere", "cylinder"],
    "color": ["none", "gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"],
}


def _draw(seed: int, index: np.ndarray, height: int, width: int) -> Arrays:
    from datasets.scenes import clevr  # the ray caster needs JAX, published files do not

    return clevr.batch(seed, index, height, width)


def _drawn(name: str, height: int, width: int) -> Variant:
    return Variant(
        name=name,
        description=f"Procedural, {height}x{width}, the published distribution; not Blender's.",
        schema=dataclasses.replace(_SCHEMA, image=(height, width, 3)),
        draw=functools.partial(_draw, height=height, width=width),
        num_scenes=NUM_SCENES,
        batch=16,
        vocabularies=_DRAWN_VOCABULARIES,
    )


class ClevrWithMasks(MultiObjectBuilder):
    """Three to ten solids in a studio."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        Variant(
            name="official",
            description="The published file.",
            schema=_SCHEMA,
            vocabularies=_VOCABULARIES,
        ),
        _drawn("procedural", 240, 320),
        _drawn("procedural_half", 120, 160),
    )
