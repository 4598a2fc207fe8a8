"""Object discovery: a model's label maps, by its masks or by clustering its features.

The protocol for features is AKOrN's (arXiv 2410.13821, appendix): fresh oscillators, optional
up-tiling, features of unit length, average linkage into a fixed number of clusters, labels
up-sampled. Masks need none of it: the largest wins the pixel.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.evaluation import clustering, up_tiling
from akorn_jax.evaluation.workers import Workers

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Segments:
    """What a model makes of N images.

    Attributes:
        labels: `[N, H, W]` integers.
        mse: `[N]`, mean over pixels and channels of the squared error of the reconstruction, of
            images in [0, 1]; None where the model draws none.
    """

    labels: np.ndarray
    mse: np.ndarray | None


def segment(
    model: nnx.Module,
    images: np.ndarray,
    *,
    key: Array,
    num_clusters: int,
    batch_size: int,
    factor: int = 1,
    dims: int = clustering.MAX_DIMS,
    num_workers: int | None = None,
    arguments: Mapping[str, int] | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> Segments:
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
        arguments: of the model's call, e.g. `{"num_slots": 11}`.
        progress: called with the number of images done.

    Raises:
        UserError: the model gives neither masks nor features, or cannot be up-tiled like that.
    """
    size = images.shape[1:3]
    maps, errors = [], []

    def seen() -> Iterator[dict[str, np.ndarray]]:
        for output in _forward(model, images, key, batch_size, factor, dict(arguments or {})):
            output = jax.device_get(output)
            errors.append(output.pop("mse", None))
            yield output

    with Workers(num_workers) as workers:
        first, outputs = _peek(seen())
        if "labels" in first:
            results = (labels for output in outputs for labels in output["labels"])
        else:
            features = (f for output in outputs for f in output["features"])
            results = clustering.iterate_cluster_maps(features, num_clusters, workers, dims=dims)
        for labels in results:
            maps.append(clustering.upsample_nearest(labels, size))
            progress(len(maps))
    return Segments(np.stack(maps), None if errors[0] is None else np.concatenate(errors))


def _forward(
    model: nnx.Module,
    images: np.ndarray,
    key: Array,
    batch_size: int,
    factor: int,
    arguments: dict[str, int],
) -> Iterator[dict[str, Array]]:
    """ "labels" or "features", and "mse", batch by batch, without what fills up the last batch.

    The model runs a batch ahead of what is yielded.
    """
    graphdef, state = nnx.split(model)
    settings = tuple(sorted(arguments.items()))
    last = None
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        count = len(batch)
        batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - count, axis=0)])
        output = _see(graphdef, state, batch, jax.random.fold_in(key, start), factor, settings)
        if last is not None:
            yield last
        last = jax.tree.map(lambda array, count=count: array[:count], output)
    yield last


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _see(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    images: Array,
    key: Array,
    factor: int,
    arguments: tuple[tuple[str, int], ...],
) -> dict[str, Array]:
    """A batch of `_forward`; compiled once for a model's structure and settings."""
    model = nnx.merge(graphdef, state)
    images = images.astype(jnp.float32) / 255
    arguments = dict(arguments)
    if factor != 1:
        return {"features": _unit(_up_tiled(model, images, key, factor, arguments))}
    output = model(images, key=key, **arguments)
    found = {}
    if output.recon is not None:
        found["mse"] = jnp.mean((output.recon - images) ** 2, axis=(1, 2, 3))
    if output.masks is not None:
        return {**found, "labels": jnp.argmax(output.masks, axis=1)}
    if output.features is not None:
        return {**found, "features": _unit(output.features)}
    raise UserError(f"{type(model).__module__}: gives neither masks nor features to segment.")


def _up_tiled(
    model: nnx.Module, images: Array, key: Array, factor: int, arguments: dict[str, int]
) -> Array:
    """Features `[B, factor h, factor w, D]`.

    Raises:
        UserError: the model has no patches, or `factor` does not divide their size.
    """
    setting = f"config.eval.up_tiling={factor}"
    if not hasattr(model, "patches"):
        raise UserError(
            f"{setting}: {type(model).__module__} has no patches, it tells pixels apart; use 1."
        )
    size = model.patches.patch_size
    if factor < 1 or size % factor:
        raise UserError(f"{setting}: does not divide the patches' {size} pixels; use a divisor.")
    tiles = up_tiling.tiles(images, factor, size)
    keys = jax.random.split(key, len(tiles))
    features = jax.lax.map(lambda t: model(t[0], key=t[1], **arguments).features, (tiles, keys))
    return up_tiling.interleave(features)


def _unit(features: Array) -> Array:
    """Features `[..., D]` of length 1, float32."""
    features = features.astype(jnp.float32)
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.maximum(norm, 1e-12)


def _peek(outputs: Iterator[dict]) -> tuple[dict, Iterator[dict]]:
    """The first output, and all of them."""
    first = next(outputs)

    def again() -> Iterator[dict]:
        yield first
        yield from outputs

    return first, again()
