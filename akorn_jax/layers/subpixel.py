"""Depth to space: channels become pixels."""

import jax

Array = jax.Array


def pixel_shuffle(x: Array, factor: int) -> Array:
    """`[B, h, w, C r r]` to `[B, r h, r w, C]`, in PyTorch's order of channels (C, row, column).

    Args:
        x: feature maps.
        factor: r.

    Raises:
        ValueError: the channels are not divisible by r².
    """
    batch, height, width, channels = x.shape
    r = factor
    if channels % r**2:
        raise ValueError(f"{channels=} are not divisible by factor² = {r**2}.")
    x = x.reshape(batch, height, width, channels // r**2, r, r).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, height * r, width * r, channels // r**2)
