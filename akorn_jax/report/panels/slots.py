"""What a model with slots made of a scene: its reconstruction, what each slot claims, and how its
mask or its attention came about, iteration by iteration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.layers.resize import resize_masks
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scenes
from akorn_jax.report.run import Run
from akorn_jax.report.scenes import Film, css

TITLE, ORDER = "Slots", 20
# Shares from 0 to 1: lightness alone tells it, so colour-blind readers see it too.
SHADES = np.rint(255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Slots:
    """Pictures of one scene, as data URIs.

    Attributes:
        index: the scene's place in the evaluated split.
        image: the scene.
        recon: its reconstruction; None where the model makes none.
        error: mean absolute difference of the two, in [0, 1]; None without reconstruction.
        masked: the image as each slot sees it, transparent where its mask is 0.
        shares: the part of the picture that each slot claims.
        films: of each slot's mask or attention, its iterations; none where the model tells none.
    """

    index: int
    image: str
    recon: str | None
    error: float | None
    masked: list[str]
    shares: list[float]
    films: list[Film]


def applies(output: ModelOutput) -> bool:
    """Whether the model gives masks, a reconstruction or attention, and neither boxes nor sprites.

    These have panels of their own, `objects` and `sprites`.
    """
    if output.boxes is not None or output.dictionary is not None:
        return False
    return not (output.masks is None and output.recon is None and not _maps(output))


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """Pictures of the scenes, as they were in the evaluation."""
    del run
    return {
        "slots": [
            _scene(examples.images[index], output, index) for index, output in outputs.items()
        ],
        "iterations": iterations(next(iter(outputs.values()))),
        "filmed": "mask" if _refines_masks(next(iter(outputs.values()))) else "attention",
        "shades": css(SHADES[:: len(SHADES) // 15]),
    }


def iterations(output: ModelOutput) -> list[str]:
    """The names of the frames of films, e.g. "iteration 1"; none where there are no films."""
    layers = _maps(output)
    return [
        (f"layer {l}, " if len(layers) > 1 else "") + f"iteration {t}"
        for l, layer in enumerate(layers, start=1)
        for t in range(1, len(layer) + 1)
    ]


def _refines_masks(output: ModelOutput) -> bool:
    return "masks" in (output.trajectory or {})


def _maps(output: ModelOutput) -> tuple[np.ndarray, ...]:
    """Masks where the model refines them, else attention: per layer `[T, K, h, w]` of an image."""
    name = "masks" if _refines_masks(output) else "attention"
    return (output.trajectory or {}).get(name, ())


def _scene(image: np.ndarray, output: ModelOutput, index: int) -> Slots:
    layers = _maps(output)
    maps = np.moveaxis(np.concatenate(layers), 0, 1) if layers else ()  # [K, T, h, w]
    recon = error = None
    if output.recon is not None:
        pixels = np.rint(255 * np.clip(output.recon, 0, 1)).astype(np.uint8)
        recon = scenes.picture(scenes.shrink_image(pixels))
        error = float(np.mean(np.abs(pixels.astype(np.float64) - image)) / 255)
    masks = [] if output.masks is None else resize_masks(output.masks[None], image.shape[:2])[0]
    return Slots(
        index=index,
        image=scenes.picture(scenes.shrink_image(image)),
        recon=recon,
        error=error,
        masked=[scenes.picture(_masked(image, mask)) for mask in masks],
        shares=[float(np.mean(mask)) for mask in masks],
        films=[scenes.film(_shaded(of_slot)) for of_slot in maps],
    )


def _shaded(maps: np.ndarray) -> np.ndarray:
    """Maps `[T, h, w]` in [0, 1] as colours `[T, h, w, 3]`; large maps by means of squares."""
    n = -(-max(maps.shape[1:]) // scenes.SMALL)
    height, width = maps.shape[1] // n, maps.shape[2] // n
    squares = maps[:, : height * n, : width * n].reshape(-1, height, n, width, n)
    return SHADES[np.rint(255 * squares.mean(axis=(2, 4))).astype(np.uint8)]


def _masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`[H, W, 4]` uint8, the mask as opacity."""
    opacity = np.rint(255 * np.clip(mask, 0, 1)).astype(np.uint8)[..., None]
    return np.concatenate(
        [scenes.shrink_image(image), scenes.shrink(opacity[..., 0])[..., None]], axis=-1
    )
