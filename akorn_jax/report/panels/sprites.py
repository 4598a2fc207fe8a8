"""The learned sprites of a model, how often each is used, and which explains what in a scene."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.layers.resize import resize_masks
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scenes
from akorn_jax.report.run import Run

TITLE, ORDER = "Sprites", 25
MAX_SPRITES = 150  # in the sheet
MAX_OBJECTS = 10  # shown per scene, the largest
MIN_SHARE = 0.003  # of a scene's pixels, below which an object is not shown
SIDE = 48  # pixels that a sprite is drawn with, at least


@dataclasses.dataclass(frozen=True)
class Sprite:
    """One entry of the dictionary.

    Attributes:
        number: 1 for the first.
        picture: data URI, transparent where its mask is 0.
        mask: data URI of the mask alone, white where it is opaque.
        usage: share of all pixels that any sprite explains; None where that was not evaluated.
    """

    number: int
    picture: str
    mask: str
    usage: float | None


@dataclasses.dataclass(frozen=True)
class Part:
    """What one slot explains of a scene.

    Attributes:
        number: of its sprite.
        sprite: data URI of the sprite as it is in the dictionary.
        masked: data URI of the scene as the slot claims it.
        share: of the scene's pixels.
    """

    number: int
    sprite: str
    masked: str
    share: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene, as data URIs, and its parts, the largest first."""

    index: int
    image: str
    recon: str | None
    parts: list[Part]


def applies(output: ModelOutput) -> bool:
    """Whether the model has a dictionary of sprites, and masks of what each explains."""
    return output.dictionary is not None and output.masks is not None


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """The dictionary, the most used sprites first, and the scenes taken apart."""
    dictionary = _pixels(next(iter(outputs.values())).dictionary)
    usage = run.summary.get("sprites", {}).get("usage")
    order = np.argsort(-np.asarray(usage), kind="stable") if usage else range(len(dictionary))
    pictures = [scenes.picture(_enlarged(sprite)) for sprite in dictionary]
    return {
        "sprites": [
            Sprite(
                number=int(s) + 1,
                picture=pictures[s],
                mask=scenes.picture(_enlarged(np.repeat(dictionary[s][..., 3:], 3, axis=-1))),
                usage=usage[s] if usage else None,
            )
            for s in order[:MAX_SPRITES]
        ],
        "num_sprites": len(dictionary),
        "scenes": [
            _scene(examples.images[index], output, index, pictures)
            for index, output in outputs.items()
        ],
    }


def _scene(image: np.ndarray, output: ModelOutput, index: int, pictures: list[str]) -> Scene:
    masks = resize_masks(output.masks[None], image.shape[:2])[0]  # [K, H, W]
    owner = np.argmax(masks, axis=0)
    shares = np.bincount(owner.ravel(), minlength=len(masks)) / owner.size
    choices = output.slots[:, : len(pictures)]
    shows = choices.sum(axis=-1) > 0.5
    parts = [
        Part(
            number=int(np.argmax(choices[k])) + 1,
            sprite=pictures[int(np.argmax(choices[k]))],
            masked=scenes.picture(_masked(image, masks[k])),
            share=float(shares[k]),
        )
        for k in np.argsort(-shares, kind="stable")
        if shows[k] and shares[k] > MIN_SHARE
    ]
    recon = None
    if output.recon is not None:
        recon = scenes.picture(scenes.shrink_image(_pixels(output.recon)))
    return Scene(
        index=index,
        image=scenes.picture(scenes.shrink_image(image)),
        recon=recon,
        parts=parts[:MAX_OBJECTS],
    )


def _masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`[H, W, 4]` uint8, the mask as opacity."""
    opacity = scenes.shrink(_pixels(mask))
    return np.concatenate([scenes.shrink_image(image), opacity[..., None]], axis=-1)


def _pixels(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] as uint8."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """A small picture `[h, w, C]` uint8 with every pixel repeated until it has `SIDE`."""
    n = max(1, -(-SIDE // max(picture.shape[:2])))
    size = (picture.shape[1] * n, picture.shape[0] * n)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST))
