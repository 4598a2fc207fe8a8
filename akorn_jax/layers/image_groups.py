"""A batch in groups of images that a CPU's caches hold."""

import math
from collections.abc import Callable

import jax

Array = jax.Array

TOKENS = 1024  # of a group; a few megabytes at the sizes of the published networks


def by_groups(f: Callable[..., Array], *batch: Array) -> Array:
    """f of arrays `[B, h, w, C]`, computed for one group of images after the other on a CPU.

    What a loop over steps computes is then still in the caches when it is needed, and less memory
    is. Elsewhere, and where the batch is shared among devices, the whole batch is one group.

    Args:
        f: takes arrays `[B, h, w, C]` for any B and returns an array `[B, ...]`, in which an image
            depends on itself alone.
    """
    images, height, width, _ = batch[0].shape
    most = TOKENS // (height * width)
    size = math.gcd(images, 1 << max(most, 1).bit_length() - 1)
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or 2 * size < most:
        return f(*batch)
    groups = [x.reshape(-1, size, *x.shape[1:]) for x in batch]
    y = jax.lax.map(lambda group: f(*group), groups)
    return y.reshape(images, *y.shape[2:])
