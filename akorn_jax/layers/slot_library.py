"""New scenes from known slots, as SLATE composes them (arXiv 2110.11405)."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from scipy.cluster.vq import kmeans2

from akorn_jax.layers.noise import Noise

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SlotLibrary:
    """Slots of a set of images, grouped into concepts by k-means; scenes take one of each.

    Attributes:
        slots: `[M, S]`, those of a concept side by side.
        starts, counts: `[concepts]` int32, where each concept begins and how many slots it has.
    """

    slots: Array
    starts: Array
    counts: Array

    @classmethod
    def of(cls, slots: np.ndarray, *, num_concepts: int, key: Array) -> "SlotLibrary":
        """A library of slots `[..., S]`.

        Args:
            slots: of many images.
            num_concepts: clusters of k-means, at least as many as a scene has slots.
            key: of k-means.

        Raises:
            ValueError: there are fewer different slots than concepts.
        """
        slots = np.asarray(slots).reshape(-1, np.shape(slots)[-1])
        concepts = k_means(slots, num_concepts, seed=int(jax.random.bits(key) >> 1))
        counts = np.bincount(concepts, minlength=num_concepts)
        if not counts.all():
            raise ValueError(
                f"{num_concepts=}: the {len(slots)} slots of the library form "
                f"{np.count_nonzero(counts)} clusters only; ask for fewer or give more images."
            )
        return cls(
            slots=jnp.asarray(slots[np.argsort(concepts, stable=True)]),
            starts=jnp.asarray(np.cumsum(counts) - counts, jnp.int32),
            counts=jnp.asarray(counts, jnp.int32),
        )

    def compose(self, num_images: int, num_slots: int, noise: Noise) -> Array:
        """Slots of new scenes, `[N, K, S]`: K different concepts, of each a slot of any image.

        Raises:
            ValueError: scenes have more slots than there are concepts.
        """
        if num_slots > len(self.counts):
            raise ValueError(
                f"{num_slots=} need as many concepts; the library has {len(self.counts)}."
            )
        order = jnp.argsort(noise.uniform((num_images, len(self.counts))))
        concepts = order[:, :num_slots]  # [N, K]
        offset = noise.uniform(concepts.shape) * self.counts[concepts]
        # A uniform draw that rounds to 1 must not reach the next concept.
        offset = jnp.minimum(offset.astype(jnp.int32), self.counts[concepts] - 1)
        return self.slots[self.starts[concepts] + offset]


def k_means(x: np.ndarray, num_clusters: int, seed: int, restarts: int = 5) -> np.ndarray:
    """The cluster `[n]` of each row of x `[n, d]`, in the best of several k-means++ runs."""
    best, labels = np.inf, np.zeros(len(x), int)
    for restart in range(restarts):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about empty clusters: the caller counts
            centres, candidate = kmeans2(x, num_clusters, iter=50, minit="++", seed=seed + restart)
        error = np.sum((x - centres[candidate]) ** 2)
        if error < best:
            best, labels = error, candidate
    return labels
