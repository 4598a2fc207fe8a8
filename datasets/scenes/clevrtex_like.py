"""Scenes in the style of CLEVRTex (Karazija et al. 2021), drawn by CLEVR's ray caster.

The camera, the lights, the placement and the variants are ClevrTex's; its photographed materials
are replaced by procedural ones and its monkey by a head. Scores on these pictures are not
ClevrTex's: call them `clevrtex_like`.

| variant | objects | ground |
|---|---|---|
| full | 4 shapes, 60 materials | 60 materials |
| pbg | as full | plain |
| vbg | CLEVR's rubber and metal in 8 colours | 60 materials |
| grassbg | as full | grass |
| camo | one of 60 materials for everything in a scene | the same |
| outd | 4 other shapes, sizes and 25 other materials | 25 other materials |
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from datasets.errors import DatasetError
from datasets.scenes import (
    clevr,
    layout,
    random,
    sampling,
    studio,
    textured_solids,
    textures,
    visibility,
)
from datasets.scenes.sampling import Window
from datasets.scenes.textured_solids import SOLIDS

PLAIN, GRASS = "plain", "meadow"
_PLAIN_RECIPE = textures.Recipe(
    "plain", ("e7e7e7", "e7e7e7", "e7e7e7"), scale=1, warp=0, bump=0, roughness=0.5
)
_FINISHES = {"rubber": (0.6, 0.0), "metal": (0.2, 1.0)}  # roughness, metal
_SEEN, _OTHER = tuple(textures.RECIPES), tuple(textures.UNSEEN)
_SIZES = {"large": 0.9, "medium": 0.6, "small": 0.4}


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a variant's scenes are made of."""

    shapes: tuple[str, ...] = ("cube", "sphere", "cylinder", "head")
    sizes: Mapping[str, float] = dataclasses.field(default_factory=lambda: _SIZES)
    materials: tuple[str, ...] = _SEEN
    grounds: tuple[str, ...] = _SEEN
    shared: bool = False  # the ground's material is the objects' as well


VARIANTS = {
    "full": Variant(),
    "pbg": Variant(grounds=(PLAIN,)),
    "vbg": Variant(materials=tuple(_FINISHES)),
    "grassbg": Variant(grounds=(GRASS,)),
    "camo": Variant(shared=True),
    "outd": Variant(
        shapes=("cone", "icosahedron", "torus", "teapot"),
        sizes={"large": 1.0, "medium": 0.8, "small": 0.6},
        materials=_OTHER,
        grounds=_OTHER,
    ),
}
VOCABULARIES = {
    "shape": ["background", *SOLIDS],
    "size": ["background", *_SIZES],
    "color": ["none", *clevr.COLORS],
    "material": [PLAIN, *_FINISHES, *_SEEN, *_OTHER],
}
_GROUND_SCALE = 0.6  # the ground's pattern is larger than the objects'


# ---------------------------------------------------------------- scenes
def sample_scene(seed: int, index: int, variant: str = "full") -> dict[str, Any]:
    """Scene `index` of the endless set `seed` of a variant.

    Returns:
      `variant`, `ground_material`, `camera`, `camera_m`, `lights` and `objects` (x, y, r, size,
      shape, material, color or None, rotation, 3d_coords, pixel_coords).

    Raises:
      DatasetError: there is no such variant, or seed or index is negative.
    """
    spec = _variant(variant)
    if seed < 0 or index < 0:
        raise DatasetError(f"seed={seed!r}, index={index!r}: must not be negative")
    rng = np.random.default_rng([seed, index, list(VARIANTS).index(variant)])
    scene = layout.camera_and_lights(rng)
    count = int(rng.integers(layout.MIN_OBJECTS, layout.MAX_OBJECTS + 1))
    scene |= {"variant": variant, "ground_material": _choice(rng, spec.grounds)}
    camera = np.asarray(scene["camera"])
    while True:
        placed = layout.place(rng, count, spec.sizes, camera)
        if placed is None:
            continue
        scene["objects"] = [_with_appearance(rng, scene, spec, o) for o in placed]
        if _every_object_shows(_pack_solids(scene)):
            return scene | {"objects": layout.with_coordinates(camera, scene["objects"])}


def _choice(rng: np.random.Generator, words: Sequence[str]) -> str:
    """What `rng.choice` takes, which would make an array of the words first."""
    return words[rng.integers(len(words))]


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise DatasetError(f"variant={name!r}: not one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def _with_appearance(
    rng: np.random.Generator, scene: Mapping[str, Any], spec: Variant, placed: dict[str, Any]
) -> dict[str, Any]:
    """An object with its shape, material, colour and rotation drawn."""
    shape = _choice(rng, spec.shapes)
    radius = placed["r"] / (math.sqrt(2) if shape == "cube" else 1)
    material = _choice(rng, spec.materials)
    return placed | {
        "r": radius,
        "shape": shape,
        "material": scene["ground_material"] if spec.shared else material,
        "color": _choice(rng, tuple(clevr.COLORS)) if material in _FINISHES else None,
        "rotation": float(rng.uniform(0, 360)),
    }


def _recipe(material: str, color: str | None = None) -> textures.Recipe:
    if material in _FINISHES:
        if color not in clevr.COLORS:
            raise DatasetError(f"color={color!r}: not one of {', '.join(clevr.COLORS)}")
        # CLEVR's colours are linear; recipes hold sRGB.
        linear = np.divide(clevr.COLORS[color], 255)
        srgb = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
        code = bytes(np.round(srgb * 255).astype(np.uint8)).hex()
        roughness, metal = _FINISHES[material]
        return dataclasses.replace(
            _PLAIN_RECIPE, colors=(code, code, code), roughness=roughness, metal=metal
        )
    recipes = {PLAIN: _PLAIN_RECIPE} | textures.RECIPES | textures.UNSEEN
    if material not in recipes:
        raise DatasetError(f"material={material!r}: there is no such recipe")
    return recipes[material]


_every_object_shows = jax.jit(
    functools.partial(
        visibility.every_object_shows, solids=tuple(SOLIDS.values()), least=layout.MIN_VISIBLE
    )
)


def _pack_solids(scene: Mapping[str, Any]) -> studio.Scene:
    """A scene's arrays, without its materials."""
    rows = [
        {
            "x": o["x"],
            "y": o["y"],
            "rotation": o["rotation"],
            "radius": o["r"],
            "kind": list(SOLIDS).index(o["shape"]),
            "metal": 0.0,
        }
        for o in scene["objects"]
    ]
    return studio.pack(scene["camera"], scene["lights"], rows, [(0, 0, 0)] * len(rows))


def _pack(scene: Mapping[str, Any], seed: int) -> tuple[studio.Scene, textures.Material, Any]:
    """A scene's arrays, its materials (ground first, then objects) and where its noise starts."""
    ground = _recipe(scene["ground_material"])
    recipes = [dataclasses.replace(ground, scale=ground.scale * _GROUND_SCALE)]
    recipes += [_recipe(o["material"], o["color"]) for o in scene["objects"]]
    recipes += [_PLAIN_RECIPE] * (1 + studio.MAX_OBJECTS - len(recipes))
    entity = np.arange(len(recipes))[:, None]
    # Half a cell up, so that the floor cuts cells through their middle.
    offsets = np.floor(random.uniform(int(seed), entity, np.arange(3)) * 64)
    offsets[:, 2] += 0.5
    materials = textures.material_rows(recipes, offsets)
    return _pack_solids(scene), materials, sampling.noise_start(seed)


# ---------------------------------------------------------------- pictures
def label_map(
    scene: Mapping[str, Any], height: int = 240, width: int = 320, window: Window | None = None
) -> np.ndarray:
    """Labels uint8 [height, width]: 0 the ground, object i of the scene is i + 1."""
    return np.asarray(_label_map(_pack_solids(scene), height, width, window or Window()))


_label_map = jax.jit(textured_solids.labels, static_argnums=(1, 2, 3))


def render_batch(
    scenes: Sequence[Mapping[str, Any]],
    height: int = 240,
    width: int = 320,
    *,
    window: Window | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws scenes: images uint8 [N, height, width, 3], labels uint8 [N, height, width].

    Args: as `clevr.render_batch`; a scene's seed also moves its patterns.

    Raises:
      DatasetError: an unknown material or colour.
    """
    seeds = np.zeros(len(scenes), int) if seeds is None else seeds
    packed = [_pack(scene, int(seed)) for scene, seed in zip(scenes, seeds, strict=True)]
    draw_scenes = functools.partial(
        _draw_scenes, height=height, width=width, window=window or Window()
    )
    return sampling.draw_all(draw_scenes, packed, height, width)


@functools.partial(jax.jit, static_argnames=("height", "width", "window"))
def _draw_scenes(
    scenes: studio.Scene,
    materials: textures.Material,
    starts: Any,
    height: int,
    width: int,
    window: Window,
) -> sampling.Drawn:
    draw_one = functools.partial(textured_solids.picture, height=height, width=width, window=window)
    return sampling.draw_group(draw_one, (scenes, materials, starts))


def render(
    scene: Mapping[str, Any], height: int = 240, width: int = 320, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image uint8 [height, width, 3], labels uint8 [height, width]."""
    images, labels = render_batch([scene], height, width, seeds=[seed])
    return images[0], labels[0]


# ---------------------------------------------------------------- records
def attributes(scenes: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Attributes per entity [N, 11, ...]; entity 0 has the ground's material, zeros where none.

    Returns:
      uint8 codes into `VOCABULARIES`: `shape`, `size`, `color`, `material`; float32 `rotation`,
      `visibility` [N, 11], `coords`, `pixel_coords` [N, 11, 3].
    """
    shape = (len(scenes), clevr.NUM_ENTITIES)
    fields = {name: np.zeros(shape, np.uint8) for name in VOCABULARIES}
    fields |= {name: np.zeros(shape, np.float32) for name in ("rotation", "visibility")}
    fields |= {name: np.zeros((*shape, 3), np.float32) for name in ("coords", "pixel_coords")}
    code = {name: {w: i for i, w in enumerate(words)} for name, words in VOCABULARIES.items()}
    for i, scene in enumerate(scenes):
        fields["visibility"][i, : 1 + len(scene["objects"])] = 1
        fields["material"][i, 0] = code["material"][scene["ground_material"]]
        for k, item in enumerate(scene["objects"], start=1):
            for name in ("shape", "size", "material"):
                fields[name][i, k] = code[name][item[name]]
            fields["color"][i, k] = code["color"][item["color"] or "none"]
            fields["rotation"][i, k] = item["rotation"]
            fields["coords"][i, k] = item["3d_coords"]
            fields["pixel_coords"][i, k] = item["pixel_coords"]
    return fields


def draw(
    seed: int,
    indices: Iterable[int],
    height: int = 240,
    width: int = 320,
    window: Window | None = None,
    variant: str = "full",
) -> dict[str, np.ndarray]:
    """Draws scenes `indices` of the set `seed`; a record does not depend on its neighbours.

    Returns:
      `image`, `segmentation`, `num_objects` as `clevr.draw`, and `attributes` of the scenes.
    """
    scenes, images, labels = sampling.sample_and_draw(
        functools.partial(sample_scene, seed, variant=variant),
        functools.partial(render_batch, height=height, width=width, window=window),
        indices,
    )
    counts = np.array([len(scene["objects"]) for scene in scenes], np.int32)
    return {"image": images, "segmentation": labels, "num_objects": counts} | attributes(scenes)


def batch(seed: int, index: np.ndarray, *, variant: str = "full") -> dict[str, np.ndarray]:
    """`draw` at 240x320 without `num_objects`: the fields of a ClevrTex record."""
    records = draw(seed, index, variant=variant)
    del records["num_objects"]
    return records
