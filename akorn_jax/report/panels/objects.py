"""The objects that a model with boxes found in a scene: boxes, glimpses and how sure it is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from akorn_jax.data.records import Examples
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scenes
from akorn_jax.report.run import Run

TITLE, ORDER = "Objects", 20
MIN_PRESENCE = 0.5  # from which on an object counts
MAX_OBJECTS = 16  # that are shown of a scene, the surest
MIN_SIDE = 64  # pixels to which small glimpses are enlarged


@dataclasses.dataclass(frozen=True)
class Object:
    """One object.

    Attributes:
        presence: in [0, 1].
        x, y, width, height: its box, in shares of the image.
        glimpse: data URI of what the model draws in the box, transparent where it draws nothing;
            None where the model makes no glimpses.
    """

    presence: float
    x: float
    y: float
    width: float
    height: float
    glimpse: str | None


@dataclasses.dataclass(frozen=True)
class Found:
    """One scene.

    Attributes:
        index: the scene's place in the evaluated split.
        image, recon: data URIs of the scene and of its reconstruction.
        num_objects: how many it has.
        num_found: how many the model counts.
        objects: the surest of them, surest first.
    """

    index: int
    image: str
    recon: str | None
    num_objects: int
    num_found: int
    objects: list[Object]


def applies(output: ModelOutput) -> bool:
    """Whether the model gives boxes and presence."""
    return output.boxes is not None and output.presence is not None


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """The objects of the scenes, as they were in the evaluation."""
    del run
    return {
        "found": [_scene(examples, output, index) for index, output in outputs.items()],
        "min_presence": MIN_PRESENCE,
    }


def _scene(examples: Examples, output: ModelOutput, index: int) -> Found:
    surest = np.argsort(-output.presence, kind="stable")
    present = [k for k in surest if output.presence[k] >= MIN_PRESENCE]
    recon = None
    if output.recon is not None:
        recon = scenes.picture(scenes.shrink_image(_pixels(output.recon)))
    return Found(
        index=index,
        image=scenes.picture(scenes.shrink_image(examples.images[index])),
        recon=recon,
        num_objects=int(examples.counts[index]),
        num_found=len(present),
        objects=[_object(output, k) for k in present[:MAX_OBJECTS]],
    )


def _object(output: ModelOutput, k: int) -> Object:
    y0, x0, y1, x1 = (float(edge) for edge in output.boxes[k])
    return Object(
        presence=float(output.presence[k]),
        x=x0,
        y=y0,
        width=x1 - x0,
        height=y1 - y0,
        glimpse=None if output.patches is None else _glimpse(output, k),
    )


def _glimpse(output: ModelOutput, k: int) -> str | None:
    """What is drawn in a box; None where the box has no pixel."""
    # Masks and patches also have the background, which has no box: it comes first.
    layer = k + len(output.patches) - len(output.presence)
    patch, mask = output.patches[layer], output.masks[layer]
    height, width = mask.shape
    y0, x0, y1, x1 = output.boxes[k] * (height, width, height, width)
    rows = slice(int(np.floor(y0)), int(np.ceil(y1)))
    columns = slice(int(np.floor(x0)), int(np.ceil(x1)))
    pixels = _pixels(np.concatenate([patch, mask[..., None]], axis=-1)[rows, columns])
    if not pixels.size:
        return None
    scale = max(1, MIN_SIDE // max(pixels.shape[:2]))
    return scenes.picture(pixels.repeat(scale, axis=0).repeat(scale, axis=1))


def _pixels(image: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
