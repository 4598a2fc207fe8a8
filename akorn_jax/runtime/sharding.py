"""How arrays lie on the devices: one mesh, the same program on one core and on a pod.

The mesh has two axes. Both carry the batch: every device works on its own images, and since the
step is one program over global arrays, XLA sees the global batch (SimCLR's negatives included) and
inserts the collectives. Along `fsdp` the parameters, their averages and the optimizer's moments
are split as well: a device stores 1/fsdp of them and gathers a layer's weights while it uses them.
Small models want `data`, models that do not fit want `fsdp`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from akorn_jax.errors import UserError

PyTree = Any

AXES = ("data", "fsdp")
# Arrays under 16 KiB of float32 are replicated: gathering one costs a collective's latency and
# storing it costs nothing.
MIN_FSDP_SIZE = 4096


def make_mesh(config: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices of all processes.

    Args:
        config: `config.mesh`, the size of each axis, e.g. `{"data": -1, "fsdp": 1}`; at most one
            is -1, which stands for the devices that the other leaves.
        devices: instead of all.

    Returns:
        A mesh with axes ("data", "fsdp").

    Raises:
        UserError: an axis that is not known, or sizes that do not multiply to the device count.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": -1, "fsdp": 1, **config}
    for axis, size in sizes.items():
        if axis not in AXES:
            raise UserError(f"mesh.{axis}={size!r}: no such axis; the axes are {', '.join(AXES)}")
        if isinstance(size, bool) or not isinstance(size, int) or not (size == -1 or size > 0):
            raise UserError(f"mesh.{axis}={size!r}: give a number of devices, or -1 for the rest")
    given = math.prod(size for size in sizes.values() if size != -1)
    free = [axis for axis in AXES if sizes[axis] == -1]
    if len(free) > 1:
        raise UserError(f"mesh.{free[0]}=-1, mesh.{free[1]}=-1: only one axis can take the rest")
    if len(devices) % given or (not free and given != len(devices)):
        shape = ", ".join(f"{axis}={sizes[axis]}" for axis in AXES)
        raise UserError(
            f"mesh ({shape}): does not divide the {len(devices)} devices; "
            f"set one axis to -1 or choose sizes that multiply to {len(devices)}"
        )
    for axis in free:
        sizes[axis] = len(devices) // given
    shape = tuple(sizes[axis] for axis in AXES)
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError unless every device gets the same number of images."""
    if batch_size < 1 or batch_size % mesh.size:
        below = batch_size // mesh.size * mesh.size
        raise UserError(
            f"batch_size={batch_size}: not divisible by the {mesh.size} devices; "
            f"use {max(below, mesh.size)} or {below + mesh.size if below else 2 * mesh.size}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading dimension, images, split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_sharding(state: PyTree, mesh: Mesh, min_size: int = MIN_FSDP_SIZE) -> PyTree:
    """The sharding of every array of a training state.

    An array is split over `fsdp` along its largest dimension that `fsdp` divides, the last of
    equals; arrays of fewer than `min_size` entries, and those without such a dimension, are
    replicated. An array and its moments have the same shape, hence the same sharding.

    Args:
        state: arrays or `jax.ShapeDtypeStruct`s (of `jax.eval_shape`).
        mesh: from `make_mesh`.
        min_size: in entries.

    Returns:
        `NamedSharding`s in the structure of `state`.
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        divisible = [i for i, size in enumerate(shape) if size and size % parts == 0]
        if parts == 1 or math.prod(shape) < min_size or not divisible:
            return replicated(mesh)
        largest = max(divisible, key=lambda i: (shape[i], i))
        spec = [None] * len(shape)
        spec[largest] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(place, state)


def gather(tree: PyTree, mesh: Mesh) -> PyTree:
    """A copy that this process has whole, on its first device; all processes call it."""
    copies = _copy_everywhere(mesh)(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), copies)


@functools.cache
def _copy_everywhere(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=replicated(mesh))
