"""Finer features by up-tiling: one forward pass for each of S x S shifted views of the images.

A network with patches of p pixels yields one feature a patch. Shifting the image by p/S pixels S
times in each direction and weaving the results together yields one every p/S pixels (AKOrN, Miyato
et al. 2024, arXiv:2410.13821, appendix on object discovery). The images are first enlarged to
H + p - p/S pixels, so that each view is a crop of H pixels.
"""

import jax
import jax.numpy as jnp

from akorn_jax.layers.resize import resize_bicubic

Array = jax.Array


def tiles(images: Array, factor: int, patch_size: int) -> Array:
    """The shifted views of a batch.

    Args:
        images: `[B, H, W, 3]`, float.
        factor: S, views in each direction; 1 leaves the images as they are.
        patch_size: p, pixels of a patch; S divides it.

    Returns:
        `[S S, B, H, W, 3]`; view (i, j), at index i S + j, is shifted by (i, j) p/S pixels. Values
        may leave the range of the images a little.

    Raises:
        ValueError: S does not divide the patch size.
    """
    if factor < 1 or patch_size % factor:
        raise ValueError(f"up-tiling {factor=}: choose a divisor of the patch size {patch_size}")
    if factor == 1:
        return images[None]
    _, height, width, _ = images.shape
    shift = patch_size // factor
    margin = patch_size - shift
    large = resize_bicubic(images, (height + margin, width + margin))
    return jnp.stack(
        [
            large[:, i * shift : i * shift + height, j * shift : j * shift + width]
            for i in range(factor)
            for j in range(factor)
        ]
    )


def interleave(features: Array) -> Array:
    """Features of the views `[S S, B, h, w, D]` woven into one map `[B, S h, S w, D]`.

    Position (S y + i, S x + j) holds the feature of view (i, j) at (y, x).
    """
    views, batch, height, width, dims = features.shape
    factor = round(views**0.5)
    if factor**2 != views:
        raise ValueError(f"{views} views: their number is the square of the up-tiling factor")
    grid = features.reshape(factor, factor, batch, height, width, dims)
    woven = grid.transpose(2, 3, 0, 4, 1, 5)
    return woven.reshape(batch, factor * height, factor * width, dims)
