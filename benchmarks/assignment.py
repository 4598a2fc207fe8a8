"""Time to match predicted with true objects inside the step: on the device, and by SciPy.

    python -m benchmarks.assignment --output=assignment.json

Both give the gradient of `losses.pairwise_huber` summed over the pairs of least cost, jitted: once
by `losses.least_cost_pairs`, which is optax's assignment under vmap, once by SciPy in a callback to
the host. They run in turn, round after round, so that other load on the machine hits both. The
default is the recipe `configs/clevr_set_prediction.py`: 512 images of 10 objects, 10 slots.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from akorn_jax import losses
from akorn_jax.data import properties
from benchmarks import command, machine

Array = jax.Array


def by_scipy(cost: Array) -> Array:
    """As `losses.least_cost_pairs`, of cost `[B, K, M]`, by SciPy on the host."""
    size = min(cost.shape[1:])
    shape = jax.ShapeDtypeStruct((2, len(cost), size), jnp.int32)

    def assign(cost: Array) -> np.ndarray:
        pairs = [linear_sum_assignment(c) for c in np.asarray(cost)]
        return np.array(pairs, np.int32).swapaxes(0, 1)

    rows, columns = jax.pure_callback(assign, shape, jax.lax.stop_gradient(cost))
    return jax.vmap(lambda c, i, j: c[i, j])(cost, rows, columns)


def step(pairs: Callable[[Array], Array]) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Predictions `[B, K, P]` and targets `[B, M, P]` to the loss and its gradient."""

    def loss(pred: Array, target: Array) -> Array:
        return pairs(losses.pairwise_huber(pred, target)).sum(axis=-1).mean()

    return jax.jit(jax.value_and_grad(loss))


def measure(batch_size: int, num_slots: int, num_objects: int, rounds: int) -> dict:
    """Milliseconds a step of both, round by round, and whether their losses agree."""
    rng = np.random.default_rng(0)
    sizes = (num_slots, num_objects)
    arrays = [
        rng.random((batch_size, size, properties.NUM_PROPERTIES), np.float32) for size in sizes
    ]
    steps = {"optax": step(losses.least_cost_pairs), "SciPy": step(by_scipy)}
    found = {name: float(run(*arrays)[0]) for name, run in steps.items()}  # compiles
    milliseconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, run in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*arrays))
            milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return {
        "milliseconds": milliseconds,
        "loss": found,
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--num_slots", type=int, default=10)
    parser.add_argument("--num_objects", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    result = measure(options.batch_size, options.num_slots, options.num_objects, options.rounds)
    for name, times in result["milliseconds"].items():
        low, median = np.min(times), np.median(times)
        print(f"{name:>6}: median {median:.1f} ms, least {low:.1f} ms, loss {result['loss'][name]}")
    print(f"{result['cores']} cores, {result['device']}, load {result['load']:.1f}")
    if options.output:
        machine.write(options.output, result)


if __name__ == "__main__":
    command.run(main)
