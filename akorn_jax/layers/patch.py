"""From images to a grid of tokens."""

from collections.abc import Sequence

import jax
from flax import nnx

from akorn_jax.layers.linear import linear

Array = jax.Array


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a square given by its side, or of a size given as such."""
    return (size, size) if isinstance(size, int) else tuple(size)


def token_grid(image_size: int | Sequence[int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches in an image.

    Raises:
        ValueError: if the patches do not tile the image.
    """
    height, width = pair(image_size)
    if height % patch_size or width % patch_size:
        raise ValueError(f"{image_size=} is not divisible by {patch_size=}.")
    return height // patch_size, width // patch_size


def rescale(images: Array, image_size: tuple[int, int]) -> Array:
    """Images `[B, H, W, C]` at `image_size`: bilinear, half-pixel centres, no antialiasing."""
    if images.shape[1:3] == image_size:
        return images
    shape = (images.shape[0], *image_size, images.shape[3])
    return jax.image.resize(images, shape, "linear", antialias=False)


def patchify(images: Array, patch_size: int) -> Array:
    """Images `[B, H, W, C]` to their patches `[B, H / p, W / p, p p C]`: row, column, colour.

    Raises:
        ValueError: if the patches do not tile the images.
    """
    batch, height, width, colors = images.shape
    p = patch_size
    h, w = token_grid((height, width), p)
    x = images.reshape(batch, h, p, w, p, colors).swapaxes(2, 3)
    return x.reshape(batch, h, w, p * p * colors)


class PatchEmbedding(nnx.Module):
    """Images `[B, H, W, 3]` in [0, 1] to tokens `[B, H / p, W / p, C]`, one a patch of p x p.

    A strided convolution whose kernel is the stride, hence a matrix product over patches, in
    float32: networks add what they compute in bfloat16 to a float32 stream.
    """

    def __init__(self, channels: int, patch_size: int, *, rngs: nnx.Rngs) -> None:
        self.patch_size = patch_size
        self.project = linear(3 * patch_size**2, channels, keep_float32=True, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        return self.project(patchify((images - 0.5) / 0.5, self.patch_size))
