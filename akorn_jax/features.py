"""Computes what a frozen encoder makes of a protocol's scenes, once, for trainings to read."""

import hashlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data import records
from akorn_jax.data.feature_cache import FeatureCache
from akorn_jax.errors import UserError
from akorn_jax.layers.noise import Noise
from akorn_jax.runtime import processes, progress
from akorn_jax.runtime.tree_paths import by_name
from akorn_jax.training import init_from, train_state

Array = jax.Array

PARTS = ("train", "validation", "test")
POLL_SECONDS = 1.0  # in which other processes look whether the first is done


def prepare(config: ConfigDict) -> None:
    """Makes sure that the features of all scenes of `config.data` are there.

    They are computed in batches of `config.eval.batch_size`. Randomness of the encoder depends on
    `config.data.seed` and the batch alone, so it is the same however often this is interrupted.

    Raises:
        UserError: the model has no encoder, or there are features of another encoder.
    """
    model = train_state.build_model(config.model, config.seed)
    if getattr(model, "encoder", None) is None:
        raise UserError(
            "config.data.features: config.model has no encoder whose features could be kept; "
            "set it to false."
        )
    init_from.fill(model, config)
    encoder = checksum(model.encoder)
    for part in PARTS:
        if config.data[part] is not None:
            cache = FeatureCache(config.data, part, config.data_dir)
            cache.check(encoder)
            if processes.is_primary():
                _fill(cache, encoder, model, part, config)
            while not cache.complete:
                time.sleep(POLL_SECONDS)


def checksum(module: nnx.Module) -> str:
    """SHA-256 of a module's class and of all its arrays, with their names."""
    digest = hashlib.sha256(type(module).__module__.encode())
    for name, array in sorted(by_name(nnx.state(module)).items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _fill(
    cache: FeatureCache, encoder: str, model: nnx.Module, part: str, config: ConfigDict
) -> None:
    """Computes the rows that are missing."""
    scenes = records.OnDisk(config.data, part, config.data_dir, ("image",))
    size = config.eval.batch_size
    cache.create(encoder, scenes.records, model.feature_shape)
    first = cache.info["done"]
    if first == len(scenes):
        return
    graphdef, state = nnx.split(model)

    @jax.jit
    def compute(images: Array, key: Array) -> Array:
        model = nnx.merge(graphdef, state)
        return model.features(images.astype(jnp.float32) / 255, Noise(key)).astype(jnp.float16)

    logging.info("Computing features of %d %s scenes.", len(scenes) - first, part)
    with progress.bar(len(scenes), first, "scene") as bar:
        for start in range(first, len(scenes), size):
            rows = np.minimum(np.arange(start, start + size), len(scenes) - 1)
            images = np.stack([scenes[row]["image"] for row in rows])
            key = jax.random.fold_in(jax.random.key(config.data.seed), start)
            features = np.asarray(compute(images, key))
            cache.append(features[: len(scenes) - start])
            bar.update(min(start + size, len(scenes)))
