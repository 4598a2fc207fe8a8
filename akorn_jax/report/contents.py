"""What a model has to show: reports ask its `ModelOutput` for parts, never the model's name."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.evaluation import settings
from akorn_jax.outputs import ModelOutput


def arguments(model: nnx.Module, config: ConfigDict) -> dict[str, Any]:
    """The arguments of the model's call that show most: those of the evaluation, and a trajectory
    where it can give one."""
    known = inspect.signature(type(model).__call__).parameters
    told = {"trajectory": True} if "trajectory" in known else {}
    return settings.call_arguments(model, config.eval) | told


def of(model: nnx.Module, config: ConfigDict, shape: tuple[int, ...]) -> ModelOutput:
    """The output for a batch of the evaluation, as shapes and types: nothing is computed.

    Args:
        model: whatever gives a `ModelOutput`.
        config: of the run.
        shape: of an image, (H, W, 3).
    """
    images = jax.ShapeDtypeStruct((config.eval.batch_size, *shape), jnp.float32)
    key = jax.random.key(config.eval.seed)
    return jax.eval_shape(lambda images: model(images, key=key, **arguments(model, config)), images)
