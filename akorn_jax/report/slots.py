"""What a model with slots made of a scene: its reconstruction, what each slot claims, and what it
attended to at each iteration."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data import Examples
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import contents, scenes
from akorn_jax.report.scenes import Film

# Attention from 0 to 1: lightness alone tells it, so colour-blind readers see it too.
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
        attention: of each slot, a film of its iterations; none where the model has no attention.
    """

    index: int
    image: str
    recon: str | None
    error: float | None
    masked: list[str]
    shares: list[float]
    attention: list[Film]


def seen(output: ModelOutput) -> bool:
    """Whether an output has parts that are drawn here."""
    return not (output.masks is None and output.recon is None and not _attention(output))


def iterations(output: ModelOutput) -> list[str]:
    """The names of the frames of attention, e.g. "iteration 1"; none without attention."""
    layers = _attention(output)
    return [
        (f"layer {l}, " if len(layers) > 1 else "") + f"iteration {t}"
        for l, layer in enumerate(layers, start=1)
        for t in range(1, len(layer) + 1)
    ]


def draw(
    model: nnx.Module, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> list[Slots]:
    """Pictures of the scenes at `indices`, as they were in the evaluation."""
    outputs = dict(_evaluated(model, config, examples, indices))
    return [_scene(examples.images[index], *outputs[index], index) for index in indices]


def _attention(output: ModelOutput) -> tuple[jax.Array, ...]:
    """Per layer `[T, B, K, h, w]`."""
    return (output.trajectory or {}).get("attention", ())


def _evaluated(
    model: nnx.Module, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> Iterator[tuple[int, tuple[ModelOutput, np.ndarray | None]]]:
    """The masks, reconstructions and attention `[K, T, h, w]` of scenes.

    What is random in a model depends on the whole batch, so whole batches are run again.
    """
    graphdef, state = nnx.split(model)
    arguments = contents.arguments(model, config)
    size, key = config.eval.batch_size, jax.random.key(config.eval.seed)

    @jax.jit
    def forward(state: nnx.State, images: jax.Array, key: jax.Array) -> tuple:
        images = images.astype(jnp.float32) / 255
        output = nnx.merge(graphdef, state)(images, key=key, **arguments)
        layers = _attention(output)
        attention = jnp.moveaxis(jnp.concatenate(layers), 0, 2) if layers else None
        return ModelOutput(masks=output.masks, recon=output.recon), attention

    for start in sorted({index // size * size for index in indices}):
        rows = np.minimum(np.arange(start, start + size), len(examples) - 1)  # filled up
        output = forward(state, examples.images[rows], jax.random.fold_in(key, start))
        output = jax.device_get(output)
        for index in indices:
            if index // size * size == start:
                yield index, jax.tree.map(lambda part, row=index - start: part[row], output)


def _scene(
    image: np.ndarray, output: ModelOutput, attention: np.ndarray | None, index: int
) -> Slots:
    recon = error = None
    if output.recon is not None:
        pixels = np.rint(255 * np.clip(output.recon, 0, 1)).astype(np.uint8)
        recon = scenes.picture(scenes.shrink_image(pixels))
        error = float(np.mean(np.abs(pixels.astype(np.float64) - image)) / 255)
    masks = [] if output.masks is None else output.masks
    return Slots(
        index=index,
        image=scenes.picture(scenes.shrink_image(image)),
        recon=recon,
        error=error,
        masked=[scenes.picture(_masked(image, mask)) for mask in masks],
        shares=[float(np.mean(mask)) for mask in masks],
        attention=[] if attention is None else [scenes.film(_shaded(maps)) for maps in attention],
    )


def _shaded(maps: np.ndarray) -> np.ndarray:
    """Attention `[T, h, w]` in [0, 1] as colours `[T, h, w, 3]`; large maps by means of squares."""
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
