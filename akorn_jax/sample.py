"""Draws images from a model's prior, or composes them from slots of a dataset."""

import inspect
import io

import jax
import numpy as np
from etils import epath
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from akorn_jax import evaluate
from akorn_jax.errors import UserError, compiling
from akorn_jax.evaluation import options
from akorn_jax.evaluation.predict import collect, predict
from akorn_jax.runtime import storage

Array = jax.Array

FILE = "figures/samples.png"
COLUMNS, GAP, SIDE = 8, 4, 128  # images side by side; pixels between them; least side of one


def sample(config: ConfigDict, workdir: epath.Path, num_images: int) -> epath.Path:
    """Writes `DIR/figures/samples.png` from the newest checkpoint.

    `config.eval.seed` draws, `config.eval.options` are options of `Model.sample`. A model that
    composes takes a `library`, which it makes of the slots of the evaluation's scenes
    (`Model.library(slots, key)`).

    Args:
        config: of the run.
        workdir: DIR.
        num_images: how many, at least 1.

    Returns:
        The picture's path.

    Raises:
        UserError: the model has no prior, an option is unknown, or nothing can be written.
    """
    if num_images < 1:
        raise UserError(f"--num_images={num_images}: give 1 or more.")
    checkpoint = evaluate.restore(config, workdir)
    model = checkpoint.model
    if not hasattr(model, "sample"):
        raise UserError(
            f"--mode=sample: {config.model.name} has no prior to sample from; choose another model."
        )
    chosen = options.call_options(model, config.eval, method="sample")
    key, library_key = jax.random.split(jax.random.key(config.eval.seed))
    if "library" in inspect.signature(model.sample).parameters:
        slots = _slots(checkpoint, config)
        chosen["library"] = model.library(slots, key=library_key)
    with compiling("the drawing", "change config.eval.options or --num_images"):
        images = np.asarray(_draw(model, key, num_images, chosen))
    path = workdir / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write(path, grid(images))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
    return path


def _draw(model: nnx.Module, key: Array, num_images: int, chosen: dict) -> Array:
    graphdef, state = nnx.split(model)
    arrays = {name: value for name, value in chosen.items() if isinstance(value, jax.Array)}
    static = {name: value for name, value in chosen.items() if name not in arrays}

    @jax.jit
    def draw(state: nnx.State, key: Array, arrays: dict[str, Array]) -> Array:
        return nnx.merge(graphdef, state).sample(num_images, key=key, **static, **arrays)

    return draw(state, key, arrays)


def _slots(checkpoint: evaluate.Checkpoint, config: ConfigDict) -> np.ndarray:
    """The slots `[N, K, D]` of the evaluation's scenes."""
    examples = evaluate.load(config)
    kept = predict(
        *(checkpoint.model, checkpoint.task, examples, config),
        step=checkpoint.step,
        task_state=checkpoint.task_state,
        reduce=lambda output, batch: output.slots,
    )
    return collect(kept)


def grid(images: np.ndarray) -> bytes:
    """Images `[N, H, W, 3]` in [0, 1], clipped, row by row as a PNG."""
    pixels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    zoom = max(1, SIDE // pixels.shape[1])
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)
    height, width = pixels.shape[1:3]
    rows, columns = -(-len(pixels) // COLUMNS), min(COLUMNS, len(pixels))
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // COLUMNS * (height + GAP), i % COLUMNS * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()
