"""Multi-dSprites: one to five sprites on a plain ground, 64x64 (Kabra et al. 2019).

`binarized`, `colored_on_grayscale` and `colored_on_colored` read the files of the public bucket
`multi-object-datasets` (Apache-2.0); `<variant>_procedural` draw scenes of the same distribution.
Images of the binarized set are repeated to three channels.

`textured_procedural` and `textured_procedural_64` are no published sets: two to four sprites, 32x32
and 64x64, that only their texture tells from each other and from the ground; see
`datasets/scenes/textured_sprites.py`.
"""

import functools

import tensorflow_datasets as tfds

from datasets import schemas
from datasets.builder import MultiObjectBuilder, Variant
from datasets.scenes import multi_dsprites as scenes
from datasets.scenes import textured_sprites
from datasets.schemas import Field, Schema

NUM_SCENES = 70_384  # AKOrN's protocol: 64 + 320 + 10,000 + 60,000

_VOCABULARIES = {"shape": ["none", *scenes.SHAPES]}  # dSprites' codes


def _variants(kind: str) -> tuple[Variant, Variant]:
    """The published file and its synthetic counterpart."""
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


def _textured(size: int) -> Variant:
    """Scenes of textures, of which there is no published file."""
    entities = textured_sprites.NUM_ENTITIES
    names = ("x", "y", "shape", "visibility", "orientation", "scale", "texture", "period")
    return Variant(
        name="textured_procedural" if size == 32 else f"textured_procedural_{size}",
        description=f"Textured sprites on a textured ground, {size}x{size}.",
        schema=Schema(
            name="multi_dsprites/textured",
            image=(size, size, 3),
            num_entities=entities,
            attributes=(
                *((name, Field((entities,), "float32")) for name in names),
                *((name, Field((entities, 3), "float32")) for name in ("dark", "light")),
            ),
        ),
        draw=functools.partial(textured_sprites.batch, size=size),
        num_scenes=NUM_SCENES,
        vocabularies={**_VOCABULARIES, "texture": ["none", *textured_sprites.TEXTURES]},
    )


class MultiDsprites(MultiObjectBuilder):
    """dSprites on a plain ground, or on a textured one."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        *(variant for kind in scenes.KINDS for variant in _variants(kind)),
        *map(_textured, textured_sprites.SIZES),
    )
