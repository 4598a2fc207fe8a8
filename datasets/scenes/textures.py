"""Procedural materials: patterns with their colours, scale and finish.

`RECIPES` are the sixty that stand in for ClevrTex's materials, `UNSEEN` the twenty-five disjoint
ones of its out-of-distribution set.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from datasets.scenes.patterns import PATTERNS
from datasets.scenes.ray_casting import Vec


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One material.

    Attributes:
      pattern: a key of `PATTERNS`.
      colors: sRGB hexadecimal: the pattern's low and high colour and its accent.
      scale: pattern cells per scene unit.
      warp: how much noise bends the pattern.
      bump: height of the relief, in pattern cells.
      roughness: GGX alpha.
      metal: share of metallic reflection.
    """

    pattern: str
    colors: tuple[str, str, str]
    scale: float
    warp: float
    bump: float
    roughness: float
    metal: float = 0.0


def _table(text: str) -> dict[str, Recipe]:
    """Recipes from lines `name pattern low high accent scale warp bump roughness metal`."""
    recipes = {}
    for line in text.strip().splitlines():
        name, pattern, *rest = line.split()
        numbers = [float(v) for v in rest[3:]]
        recipes[name] = Recipe(pattern, tuple(rest[:3]), *numbers)
    return recipes


RECIPES = _table("""
stucco clouds cfc6b4 e9e2d2 b9ad97 3 .2 .25 .7 0
clay clouds 8c4a32 b5694a 6e3522 2.2 .4 .15 .6 0
moss clouds 31451f 6f8f3a 9aa653 4 .5 .4 .8 0
storm clouds 39424e 8e9aa8 d6dde4 1.6 .8 .1 .5 0
coral clouds d9685a f4a892 ffe0cf 3.4 .6 .45 .6 0
carrara marble e4e2df f7f6f4 6d7076 1.4 1.6 .04 .12 0
verde marble 1e4a38 3c7a5c c9dccb 1.8 2.2 .04 .12 0
nero marble 151518 2c2b30 d9cfae 1.5 2.4 .04 .1 0
rosso marble 6e1f22 9a3b36 efd9c3 1.7 1.9 .05 .15 0
onyx marble c98b3c f0cf8a 7a4517 2.1 2.8 .03 .1 0
oak wood 8a5a2c c6965a 5c3a1a 2.4 .6 .1 .4 0
walnut wood 3d2415 6e4526 24140a 2.8 .9 .1 .35 0
pine wood d8ae6c f0d49c a87a3c 2 .5 .08 .45 0
cherry wood 7a2f1c b05a36 521c10 2.6 1.1 .08 .3 0
driftwood wood 77716a b3aca2 4c4741 3.2 1.4 .25 .7 0
awning stripes c2322b f1ece0 8f1f1b 1.6 0 .05 .5 0
zebra stripes 141414 efefec 3b3b3b 1.8 1.6 .05 .45 0
corduroy stripes 6b4a86 9472b3 46305a 5 .1 .3 .75 0
ticking stripes e5dfcf 31507c 93a5bf 3.4 0 .08 .6 0
tiger stripes d9822b 20160f f2b766 2.2 2 .1 .6 0
chess checker 1c1a19 ece6d8 54504b 2.2 0 .08 .2 0
picnic checker c23b3b f7efe6 e09a95 2.8 0 .04 .6 0
lino checker 2c5f6f d7d2b4 517f86 1.7 0 .06 .3 0
terracotta_check checker a6512f d99a6c 6f3219 2 .1 .1 .5 0
ocean_check checker 1f3d73 6fa8d6 c7e0f0 2.5 .25 .06 .35 0
red_brick bricks 8a3a28 b65a40 c9c1b4 1.7 .2 .3 .7 0
grey_brick bricks 5e6266 8a8f93 c6c8c8 1.5 .2 .3 .7 0
sand_brick bricks c7a56b e0c690 8e7a55 1.9 .3 .3 .7 0
slate_wall bricks 3b4650 596873 23292e 2.3 .8 .35 .6 0
glazed_brick bricks 1d6b57 2f9a7c e6e6da 2 0 .2 .12 0
cobble cells 6b6862 9c978d 3a3834 2.6 .2 .4 .6 0
giraffe cells a8672c c98a45 ecd9ae 2 .3 .05 .6 0
cracked_mud cells 8f7352 b0946e 4a3826 2.3 .4 .35 .8 0
terrazzo cells d8d2c6 b07a62 ede9e0 5 .1 .02 .2 0
pebbles cells 5d6d74 b9b3a4 2f3436 4 .1 .5 .45 0
burlap weave a5874f c7ab72 6d5730 8 .3 .35 .8 0
denim weave 2c4470 5472a4 1a2947 11 .2 .25 .75 0
wicker weave b98445 dcae6c 5f3f1d 4 .2 .5 .5 0
tartan weave 8d2230 1f4a39 14181d 3 0 .15 .7 0
linen weave e3dccb c9c0ab a39a86 12 .3 .25 .8 0
granite speckle 6f6c6a aaa6a2 2a2828 3.4 .3 .05 .3 0
sand speckle c9ab74 e6cf9e 9d8150 7 .2 .2 .85 0
asphalt speckle 2c2d2f 4a4b4e 7c7d80 6 .3 .25 .8 0
egg speckle c7d8d4 e5eeea 6b5848 3 .6 .03 .35 0
snow speckle dfe6ee ffffff c3d2e4 5 .5 .3 .6 0
rusted_iron rust 5a5f66 7d838b 8d4a22 2 .5 .2 .35 .6
verdigris rust b0763d cf9657 4fa08c 2.2 .6 .15 .3 .7
peeling_paint rust 3f7fa6 5b9cc1 d9d0bc 2.6 .7 .2 .45 0
lichen rust 6c6f6b 8d918c c4c065 3 .5 .25 .75 0
burnt_steel rust 4c5a80 8a6fa0 c99a4b 1.6 .9 .05 .2 .9
meadow blades 2f5a1e 74a53c a8b95a 2.2 1 .5 .8 0
straw blades b8933f ead08a 8f6d28 2 .6 .5 .75 0
fox_fur blades a3491b e08a45 f3dcc0 2.4 .5 .4 .8 0
wool blades d8d3c8 f6f3ec bdb4a4 3 1 .4 .9 0
seaweed blades 163b33 2f7a62 6a9a4e 1.9 1 .45 .3 0
polka dots e8e2da f7f3ee b3243f 2.6 0 .03 .4 0
ladybird dots 221515 2e1c1c c8201c 2.3 .2 .04 .15 0
confetti dots e0a82e 3aa6b9 f4efe4 3.6 .3 .03 .5 0
hammered dots b9bcc2 d8dade 9b9ea4 4 .3 .5 .25 .9
bubble_wrap dots 9fd0e6 d3edf7 6fa9c4 3.4 .1 .5 .1 0
""")

UNSEEN = _table("""
ash clouds 4b4745 77716d a39c95 2.8 .9 .3 .8 0
nebula clouds 3a1d5c b0458f f2b36b 1.9 .9 .1 .5 0
rose_quartz marble e7b8bd f6dcdc ffffff 1.6 2 .03 .12 0
lapis marble 16307a 2c52a8 d9b24c 2 2.6 .03 .15 0
ebony wood 17120f 33271f 080605 3.2 .8 .08 .3 0
birch wood e3d6bd f5ecda 4a4138 1.7 1.8 .08 .5 0
barber stripes 2b4fa0 f5f5f5 c8273a 2 .2 .04 .25 0
bee stripes 1b1712 f2b81f 6b4d10 2 .3 .15 .6 0
mint_check checker 77c9a8 f4fbf6 3d8f70 2.3 0 .05 .3 0
purple_check checker 3c2358 b79fd4 6f4b96 1.8 .4 .06 .5 0
cinder_block bricks 8b8c88 a9aaa6 5d5e5b 1.2 .3 .35 .85 0
gold_brick bricks b8892b e4bd5a 7a5614 2 .1 .25 .2 .8
dragon_scale cells 1d5c3f 3f9a5e d7b24a 3.2 .2 .5 .25 0
stained_glass cells c23a55 2f7fc1 1b1b1f 2.2 .1 .2 .1 0
lava cells 2a1512 4b221b ff6a1f 2.6 .5 .45 .6 0
basket weave d6c39a a98a58 4e3b20 3.2 .1 .5 .6 0
carbon_fibre weave 17181a 3b3d41 08090a 7 0 .15 .15 .3
porphyry speckle 5b2436 8a4256 e3c7c0 4.4 .4 .04 .2 0
stardust speckle 11142e 26305e f5f0d8 4 .2 .02 .3 0
oxidised_copper rust 7c3f22 a6613a 3fb3a0 2.8 .8 .2 .35 .5
old_bronze rust 6a5327 957a3d 2f4a3c 1.8 .6 .12 .25 .8
heather blades 5c3a66 a56fb0 4c6b3a 2.3 1 .5 .8 0
polar_fur blades b8c4cf f4f8fb 8fa3b5 2.6 .4 .4 .85 0
toadstool dots f4ece2 ffffff c4321f 1.9 .4 .15 .4 0
domino dots f1efe9 fbfaf6 16161a 2.1 0 .04 .25 0
""")


class Material(NamedTuple):
    """Recipes as arrays, one row per entity; `offset` moves an entity through the pattern."""

    pattern: Any
    colors: Any  # linear RGB [..., 3 (low, high, accent), 3]
    scale: Any
    warp: Any
    bump: Any
    roughness: Any
    metal: Any
    offset: Any


def linear_color(hexadecimal: str) -> np.ndarray:
    """Linear RGB of an sRGB colour such as `ff8800`."""
    srgb = np.array([int(hexadecimal[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def material_rows(recipes: list[Recipe], offsets: np.ndarray) -> Material:
    """Stacks recipes; `offsets` [N, 3] in pattern cells."""
    numbers = {
        name: np.array([getattr(r, name) for r in recipes], np.float32)
        for name in ("scale", "warp", "bump", "roughness", "metal")
    }
    return Material(
        pattern=np.array([list(PATTERNS).index(r.pattern) for r in recipes], np.int32),
        colors=np.array([[linear_color(c) for c in r.colors] for r in recipes], np.float32),
        offset=np.asarray(offsets, np.float32),
        **numbers,
    )


_RELIEF_STEP = 0.02  # pattern cells, for the slope of the relief


def paint(material: Material, point: Vec) -> tuple[Vec, Vec]:
    """Albedo and gradient of the relief (per scene unit) of one material at points.

    The gradient's direction is that in which the surface rises.
    """
    scale = material.scale
    cell = point * scale + Vec.of(material.offset)
    steps = jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3) * _RELIEF_STEP])
    shifted = Vec(
        cell.x + steps[:, 0, None], cell.y + steps[:, 1, None], cell.z + steps[:, 2, None]
    )
    texture = jax.lax.switch(material.pattern, list(PATTERNS.values()), shifted, material.warp)
    low, high, accent = (Vec.of(material.colors[i]) for i in range(3))
    color = low + (high - low) * texture.mix[0]
    color = color + (accent - color) * texture.accent[0]
    slope = (texture.height[1:] - texture.height[0]) * (material.bump / _RELIEF_STEP)
    return color, Vec(slope[0], slope[1], slope[2])
