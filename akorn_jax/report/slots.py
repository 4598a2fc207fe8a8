"""What a model with masks made of a scene: its reconstruction, and what each slot claims."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data import Examples
from akorn_jax.evaluation import settings
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scenes

NUM_SCENES = 6


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
    """

    index: int
    image: str
    recon: str | None
    error: float | None
    masked: list[str]
    shares: list[float]


def draw(
    model: nnx.Module, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> list[Slots]:
    """Pictures of the scenes at `indices`; none where the model has neither masks nor recon."""
    outputs = dict(_evaluated(model, config, examples, indices))
    if all(output.masks is None and output.recon is None for output in outputs.values()):
        return []
    return [_scene(examples.images[index], outputs[index], index) for index in indices]


def _evaluated(
    model: nnx.Module, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> Iterator[tuple[int, ModelOutput]]:
    """The masks and the reconstructions of scenes, as they were in the evaluation.

    What is random in a model depends on the whole batch, so whole batches are run again.
    """
    graphdef, state = nnx.split(model)
    arguments = settings.call_arguments(model, config.eval)
    size, key = config.eval.batch_size, jax.random.key(config.eval.seed)

    @jax.jit
    def forward(state: nnx.State, images: jax.Array, key: jax.Array) -> ModelOutput:
        images = images.astype(jnp.float32) / 255
        output = nnx.merge(graphdef, state)(images, key=key, **arguments)
        return ModelOutput(masks=output.masks, recon=output.recon)

    for start in sorted({index // size * size for index in indices}):
        rows = np.minimum(np.arange(start, start + size), len(examples) - 1)  # filled up
        output = forward(state, examples.images[rows], jax.random.fold_in(key, start))
        output = jax.device_get(output)
        for index in indices:
            if index // size * size == start:
                yield index, jax.tree.map(lambda part, row=index - start: part[row], output)


def _scene(image: np.ndarray, output: ModelOutput, index: int) -> Slots:
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
    )


def _masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`[H, W, 4]` uint8, the mask as opacity."""
    opacity = np.rint(255 * np.clip(mask, 0, 1)).astype(np.uint8)[..., None]
    return np.concatenate(
        [scenes.shrink_image(image), scenes.shrink(opacity[..., 0])[..., None]], axis=-1
    )
