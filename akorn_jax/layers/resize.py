"""Resizing as PyTorch and timm do it, as products with interpolation matrices."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

CUBIC = -0.75  # the cubic kernel's free parameter, as in PyTorch; others use -0.5


def cubic_matrix(old: int, new: int) -> np.ndarray:
    """Weights `[new, old]` of bicubic interpolation of a line of pixels.

    Half-pixel centres, no antialiasing, the border pixel repeated (Keys 1981, a = -0.75). Rows sum
    to 1 and may hold negative weights: results are not confined to the range of the input.
    """
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int) - 1
    matrix = np.zeros((new, old))
    for tap in range(4):
        t = np.abs(centre - first - tap)
        near = ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1
        far = CUBIC * (((t - 5) * t + 8) * t - 4)
        column = np.clip(first + tap, 0, old - 1)
        np.add.at(matrix, (np.arange(new), column), np.where(t <= 1, near, far))
    return matrix.astype(np.float32)


def resize_bicubic(images: Array, size: tuple[int, int]) -> Array:
    """`[B, H, W, C]` to `[B, *size, C]`, as PyTorch's bicubic without antialiasing; not clamped."""
    if images.shape[1:3] == tuple(size):
        return images
    rows, columns = (
        cubic_matrix(old, new) for old, new in zip(images.shape[1:3], size, strict=True)
    )
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, images, precision="highest")


def resize_masks(masks: Array, size: tuple[int, int]) -> Array:
    """`[B, K, h, w]` to `[B, K, *size]`, bilinear: half-pixel centres, the border repeated.

    Masks that sum to 1 over K still do.
    """
    if masks.shape[2:] == tuple(size):
        return masks
    return jax.image.resize(masks, (*masks.shape[:2], *size), "linear", antialias=False)
