"""Object discovery: a model's label maps, by its masks or by clustering its features.

The protocol is AKOrN's (arXiv 2410.13821, appendix): fresh oscillators, optional up-tiling,
features of unit length, average linkage into a fixed number of clusters, labels up-sampled.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.evaluation import clustering, up_tiling
from akorn_jax.evaluation.workers import Workers
from akorn_jax.metrics import labels_from_masks
from akorn_jax.outputs import ModelOutput

Array = jax.Array


def label_maps(
    model: nnx.Module,
    images: np.ndarray,
    *,
    key: Array,
    num_clusters: int,
    batch_size: int,
    factor: int = 1,
    dims: int = clustering.MAX_DIMS,
    num_workers: int | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> np.ndarray:
    """Segments images; the device works on the next batch while the last one is clustered.

    Args:
        model: gives `masks`, whose largest wins each pixel, or `features`, which are clustered.
        images: `[N, H, W, 3]` uint8.
        key: image i's randomness depends on (key, i, batch_size) alone.
        num_clusters: of each image, where features are clustered.
        batch_size: images a forward pass.
        factor: of up-tiling, for features: a forward pass for each of factor^2 shifted tiles.
        dims: wider features are reduced to so many principal components.
        num_workers: processes that cluster, one a core by default.
        progress: called with the number of images done.

    Returns:
        `[N, H, W]` integer labels.
    """
    size = images.shape[1:3]
    maps = []
    with Workers(num_workers) as workers:
        outputs = _forward(model, images, key, batch_size, factor)
        first, outputs = _peek(outputs)
        if first.masks is not None:
            results = (m for output in outputs for m in labels_from_masks(output.masks))
        else:
            features = (f for output in outputs for f in np.asarray(output.features))
            results = clustering.iterate_cluster_maps(features, num_clusters, workers, dims=dims)
        for labels in results:
            maps.append(clustering.upsample_nearest(labels, size))
            progress(len(maps))
    return np.stack(maps)


def _forward(
    model: nnx.Module, images: np.ndarray, key: Array, batch_size: int, factor: int
) -> Iterator[ModelOutput]:
    """Outputs batch by batch, without what the last, filled-up batch has too many.

    The model runs a batch ahead of what is yielded.
    """
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state: nnx.State, images: Array, key: Array) -> ModelOutput:
        model = nnx.merge(graphdef, state)
        images = images.astype(jnp.float32) / 255
        if factor == 1:
            output = model(images, key=key)
            features = output.features
        else:
            tiles = up_tiling.tiles(images, factor, model.patches.patch_size)
            keys = jax.random.split(key, len(tiles))
            output = ModelOutput()
            features = jax.lax.map(lambda t: model(t[0], key=t[1]).features, (tiles, keys))
            features = up_tiling.interleave(features)
        if features is not None:
            features = features.astype(jnp.float32)
            norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
            features = features / jnp.maximum(norm, 1e-12)
        return ModelOutput(masks=output.masks, features=features)

    last = None
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        count = len(batch)
        batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - count, axis=0)])
        output = forward(state, batch, jax.random.fold_in(key, start))
        if last is not None:
            yield last
        last = jax.tree.map(lambda array, count=count: array[:count], output)
    yield last


def _peek(outputs: Iterator[ModelOutput]) -> tuple[ModelOutput, Iterator[ModelOutput]]:
    """The first output, and all of them."""
    first = next(outputs)

    def again() -> Iterator[ModelOutput]:
        yield first
        yield from outputs

    return first, again()
