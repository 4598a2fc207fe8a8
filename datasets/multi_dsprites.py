"""Multi-dSprites: one to five sprites on a plain ground, 64x64 (Kabra et al. 2019).

`binarized`, `colored_on_grayscale` and `colored_on_colored` read the files of the public bucket
`multi-object-datasets` (Apache-2.0); `<variant>_procedural` draw scenes of the same distribution.
Images of the binarized set are repeated to three channels.
"""

import functools

import tensorflow_datasets as tfds

from datasets import schemas
from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import multi_dsprites as scenes

NUM_SCENES = 70_384  # AKOrN's protocol: 64 + 320 + 10,000 + 60,000

_VOCABULARIES = {"shape": ["none", *scenes.SHAPES]}  # dSprites' codes


def _variants(kind: str) -> tuple[Variant, Variant]:
    """The published file and its drawn counterpart."""
    schema = schemas.find(f"multi_dsprites/{kind}")
    published = Variant(
        name=kind,
        description="The published file.",
        schema=schema,
        vocabularies=_VOCABULARIES,
    )
    drawn = Variant(
        name=f"{kind}_procedural",
        description=f"Procedural, from the distribution of {kind}.",
        schema=schema,
        draw=functools.partial(scenes.batch, kind=kind),
        num_scenes=NUM_SCENES,
        vocabularies=_VOCABULARIES,
    )
    return published, drawn


class MultiDsprites(MultiObjectBuilder):
    """dSprites on a plain ground."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(variant for kind in scenes.KINDS for variant in _variants(kind))
