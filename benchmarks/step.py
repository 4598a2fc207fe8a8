"""The training step of a recipe, and its parts, as things to time.

All is what `launch.py` runs: the recipe's config, model, task and optimizer, and the program of
`train.make_update` on scenes that are resident. Only the scenes are noise.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import optimizer, run_config, train
from akorn_jax.data import augment, batches
from akorn_jax.data.records import EpochSampler
from akorn_jax.errors import UserError
from akorn_jax.layers import precision
from akorn_jax.runtime import memory, sharding
from akorn_jax.tasks.base import Context
from akorn_jax.training import train_state
from benchmarks import flops

Array = jax.Array
Step = Callable[[], Any]

BATCHES = 4  # that the scenes on the device are enough for

CPU_TIME = "seconds that cores work, of all threads; on one core, whatever else runs on it"

# As `launch.py` does.
jax.config.update("jax_cpu_enable_async_dispatch", False)
memory.keep_freed_memory()


def parser(description: str) -> argparse.ArgumentParser:
    """Of the options of a benchmark that takes one recipe's step."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--recipe", default="configs/tetrominoes_akorn.py", metavar="FILE")
    result.add_argument("--images", type=int, default=128, help="that the network sees in a step")
    result.add_argument("--output", help="a JSON file")
    return result


def recipe(name: str, images: int | None, overrides: tuple[str, ...] = ()) -> ConfigDict:
    """A recipe's config with a batch of as many images as the network is to see in a step."""
    config = run_config.override(run_config.from_recipe(name), overrides)
    if images is None:
        return config
    views = train_state.build("tasks", config.task).views
    if images % views:
        raise UserError(f"--images={images}: is not divisible by the {views} views of a scene.")
    config.batch_size = images // views
    return config


class Training:
    """A recipe's training on scenes of noise.

    Args:
        config: of a recipe whose task reads images or, besides, their classes.
        augmented: make random views, as the recipe does; without, the views are the scenes.
        devices: instead of all.
    """

    def __init__(
        self, config: ConfigDict, *, augmented: bool = True, devices: list | None = None
    ) -> None:
        self.config = config
        self.model = train_state.build_model(config.model, config.seed)
        self.task = train_state.build("tasks", config.task)
        count = BATCHES * config.batch_size
        fields = scenes(config, self.task, count)
        self.augmentation = getattr(self.task, "augmentation", None)
        if not augmented:
            given_views(self.task)
        self.images = self.task.views * config.batch_size  # that the network sees in a step
        mesh = sharding.make_mesh(config.mesh, devices)
        sharding.check_batch_size(config.batch_size, mesh)
        tx, _ = optimizer.make(config.optimizer, config.num_steps)

        def create() -> train_state.TrainState:
            return train_state.create(self.model, tx, self.task.init_state())

        shapes = jax.eval_shape(create)
        placement = sharding.state_sharding(shapes, mesh)
        self.state = jax.jit(create, out_shardings=placement)()
        order = EpochSampler(count, config.batch_size, config.seed)
        self.batches = batches.InMemory(fields, order, mesh, np.arange(count))
        self.update = train.make_update(self.model, self.task, tx, config, placement)
        self.done = 0

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state.params))

    def compile(self) -> dict[str, float]:
        """Compiles the update, and says what that took and what the program needs."""
        batch = self.batches(0, self.config.steps_per_call)
        lowered = self.update.lower(self.state, batch.source, batch.indices)
        start = time.perf_counter()
        self.update = lowered.compile()
        return {
            "compile_seconds": time.perf_counter() - start,
            "temp_megabytes": self.update.memory_analysis().temp_size_in_bytes / 1e6,
        }

    def __call__(self) -> dict[str, Array]:
        """Makes one call of the update and waits for it; returns its metrics."""
        count = self.config.steps_per_call
        batch = self.batches(self.done, count)
        self.state, metrics = self.update(self.state, batch.source, batch.indices)
        self.done += count
        return jax.block_until_ready(metrics)

    def loss(self, params: Any, buffers: Any, batch: dict[str, Array]) -> Array:
        """The loss of a batch, as the update takes it."""
        graphdef, _, _ = train_state.split(self.model)
        return loss(self.config, self.task, graphdef, params, buffers, batch)

    def parts(self) -> dict[str, Step]:
        """Programs that do a part of the step each, on the first batch.

        "augmentation" makes the views; "forward" takes the loss and "gradient" its gradient too,
        both on this training's views.
        """
        batch = self.batches(0, 1)
        batch = batches.gather_batch(batch.source, batch.indices[0])
        params, buffers = jax.tree.map(jnp.copy, (self.state.params, self.state.buffers))
        forward = jax.jit(self.loss)
        gradient = jax.jit(jax.value_and_grad(self.loss))
        parts = {
            "forward": lambda: jax.block_until_ready(forward(params, buffers, batch)),
            "gradient": lambda: jax.block_until_ready(gradient(params, buffers, batch)),
        }
        if self.augmentation is not None:
            make = jax.jit(
                lambda images: augment.views(
                    self.augmentation, jax.random.key(0), images, self.task.views
                )
            )
            parts["augmentation"] = lambda: jax.block_until_ready(make(batch["image"]))
        return parts


def scenes(config: ConfigDict, task: Any, count: int) -> dict[str, np.ndarray]:
    """Noise for what a task reads: images and, where it asks for them, their classes.

    Raises:
        UserError: it asks for more.
    """
    labels = getattr(task, "labels", "")
    if set(task.fields) != {"image", labels} - {""}:
        raise UserError(
            f"config.task.name={config.task.name!r}: it takes other things than images and classes."
        )
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *run_config.input_size(config), 3), np.uint8)
    if not labels:
        return {"image": pixels}
    return {
        "image": pixels,
        labels: random.integers(0, config.model.num_classes, count, np.int32),
    }


def loss(
    config: ConfigDict,
    task: Any,
    graphdef: nnx.GraphDef,
    params: Any,
    buffers: Any,
    batch: dict[str, Array],
) -> Array:
    """The loss that `train.make_update` takes the gradient of."""
    params = precision.cast(params, config.dtype)
    model = nnx.merge(graphdef, params, buffers, copy=True)
    ctx = Context(jnp.zeros((), jnp.int32), jax.random.key(0), task.init_state(), train=True)
    return task.loss(model, batch, ctx)[0]


def model_flops(config: ConfigDict) -> float:
    """Products' FLOPs for an image and training step: forward and backward, nothing recomputed.

    They are counted in the forms that accelerators compute; on CPUs, products stand for sums too,
    and a convolution needs fewer of them.
    """
    config = config.copy_and_resolve_references()
    if "remat" in config.model:
        config.model.remat = False
    task = given_views(train_state.build("tasks", config.task))
    model = nnx.eval_shape(lambda: train_state.build_model(config.model, config.seed))
    graphdef, params, buffers = train_state.split(model)
    batch = scenes(config, task, 2)
    gradient = jax.grad(functools.partial(loss, config, task, graphdef))
    with mock.patch.object(jax, "default_backend", return_value="an accelerator"):
        return flops.count(gradient, params, buffers, batch) / (2 * task.views)


def given_views(task: Any) -> Any:
    """A task whose views are the scenes themselves."""
    if hasattr(task, "augmentation"):
        task.augmentation = lambda key, image: image
    return task


def in_turn(
    steps: dict[str, Step],
    rounds: int,
    repeats: int = 1,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each, round by round, after two calls that do not count.

    They take turns within a round, so that other load on the machine hits all. With
    `time.process_time` as `clock` the seconds are those of the cores.
    """
    for step in steps.values():
        step()
        step()
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = clock()
            for _ in range(repeats):
                step()
            seconds[name].append((clock() - start) / repeats)
    return seconds


def median_ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Median, least and largest of the rounds' ratios."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
