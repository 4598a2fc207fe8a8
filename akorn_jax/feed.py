"""How scenes reach the devices."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from akorn_jax import sharding
from akorn_jax.data import Examples, Order

Array = jax.Array


class Resident:
    """All scenes live in device memory, split over the devices; a step is told which to take.

    Args:
        arrays: `[N, ...]` by field.
        order: which scenes each step sees.
        mesh: the devices.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], order: Order, mesh: Mesh) -> None:
        self._order = order
        self._indices = sharding.replicated(mesh)
        self._source = {
            name: jax.device_put(_padded(array, mesh.size), sharding.batch_sharding(mesh))
            for name, array in arrays.items()
        }

    def __call__(self, step: int, count: int) -> tuple[dict[str, Array], Array]:
        """The arrays, and which of their rows the steps step, ..., step + count - 1 take.

        Returns:
            `[N', ...]` by field, and rows `[count, batch_size]`.
        """
        rows = np.stack([self._order[s] for s in range(step, step + count)])
        return self._source, jax.device_put(rows, self._indices)


def fields(examples: Examples, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays that a task asks for: "image", "segmentation" or the name of an attribute."""
    known = {"image": examples.images, "segmentation": examples.labels, **examples.attributes}
    return {name: known[name] for name in names}


def _padded(array: np.ndarray, multiple: int) -> np.ndarray:
    """With rows added that no step takes, so that every device holds as many."""
    missing = -len(array) % multiple
    return np.concatenate([array, array[:missing]]) if missing else array
