"""The spatial transformer (arXiv 1506.02025) of models whose objects live in upright boxes.

A box is `where` = (sx, sy, tx, ty) in image coordinates, which run from -1 to 1 between the outer
edges of the border pixels, x to the right and y down: its centre is (tx, ty) and its size is
(sx, sy) times the image's. A glimpse has the same coordinates inside its box.

Boxes are upright, hence rows and columns are interpolated apart: a glimpse is two products with
matrices `[output pixels, input pixels]` of bilinear weights, two of them nonzero per row. There is
no gather, and the gradient is two products as well. The results equal those of PyTorch's
`affine_grid` and `grid_sample` with `align_corners=False`.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def extract(images: Array, where: Array, size: tuple[int, int]) -> Array:
    """The glimpses that boxes show of images; outside the image there are zeros.

    Args:
        images: `[..., H, W, C]`; leading axes broadcast against those of the boxes, so that
            `images[:, None]` with boxes `[B, N, 4]` gives N glimpses per image.
        where: boxes (sx, sy, tx, ty), `[..., 4]`.
        size: (h, w) of the glimpses.

    Returns:
        `[..., h, w, C]`.
    """
    sx, sy, tx, ty = _components(where)
    y = sy * pixel_centers(size[0]) + ty
    x = sx * pixel_centers(size[1]) + tx
    return resample(images, y, x)


def place(glimpses: Array, where: Array, size: tuple[int, int], *, eps: float = 0.0) -> Array:
    """Canvases with each glimpse in its box and zeros around it; `extract`'s inverse.

    Args:
        glimpses: `[..., h, w, C]`.
        where: boxes (sx, sy, tx, ty), `[..., 4]`, sx and sy greater than 0.
        size: (H, W) of the canvases.
        eps: added to the divisors sx and sy.

    Returns:
        `[..., H, W, C]`.
    """
    rows, columns = placement(where, glimpses.shape[-3:-1], size, eps=eps)
    return separable(rows, columns, glimpses)


def placement(
    where: Array, glimpse_size: tuple[int, int], size: tuple[int, int], *, eps: float = 0.0
) -> tuple[Array, Array]:
    """The weights by which `place` makes a canvas's rows and columns of a glimpse's.

    Returns:
        `[..., H, h]` and `[..., W, w]`.
    """
    sx, sy, tx, ty = _components(where)
    y = (pixel_centers(size[0]) - ty) / (sy + eps)
    x = (pixel_centers(size[1]) - tx) / (sx + eps)
    return bilinear_weights(y, glimpse_size[0]), bilinear_weights(x, glimpse_size[1])


def resample(images: Array, y: Array, x: Array, *, padding: str = "zeros") -> Array:
    """Images at the points of a grid, bilinearly.

    Args:
        images: `[..., H, W, C]`.
        y, x: coordinates of the grid's rows `[..., h]` and columns `[..., w]` in [-1, 1]; leading
            axes of all three broadcast.
        padding: what lies outside the image: "zeros" or "border" (the nearest pixel).

    Returns:
        `[..., h, w, C]`.
    """
    rows = bilinear_weights(y, images.shape[-3], padding)
    columns = bilinear_weights(x, images.shape[-2], padding)
    return separable(rows, columns, images)


def separable(rows: Array, columns: Array, images: Array) -> Array:
    """rows @ image @ columns^T of every channel.

    Args:
        rows: `[..., h, H]`.
        columns: `[..., w, W]`.
        images: `[..., H, W, C]`.

    Returns:
        `[..., h, w, C]`.
    """
    # Positions are good to a fraction of a pixel only if the weights keep their float32 digits,
    # which matrix units of GPUs and TPUs round off unless told otherwise.
    highest = jax.lax.Precision.HIGHEST
    if rows.shape[-2] > rows.shape[-1]:
        # The large product comes last and leaves its result in order: no transposed canvases.
        x = jnp.einsum("...jw,...hwc->...hjc", columns, images, precision=highest)
        return jnp.einsum("...ih,...hjc->...ijc", rows, x, precision=highest)
    x = jnp.einsum("...ih,...hwc->...iwc", rows, images, precision=highest)
    return jnp.einsum("...jw,...iwc->...ijc", columns, x, precision=highest)


def bilinear_weights(points: Array, size: int, padding: str = "zeros") -> Array:
    """The weight of each of `size` pixels at points `[..., n]` in [-1, 1]: `[..., n, size]`.

    Each row has at most two weights, 1 - f and f on either side of its point. Their derivative is
    the one from the right where a point meets a pixel, as in PyTorch.
    """
    position = ((points + 1) * size - 1) / 2  # in pixels
    if padding == "border":
        inside = (position > 0) & (position < size - 1)
        nearest = jax.lax.stop_gradient(jnp.clip(position, 0, size - 1))
        position = jnp.where(inside, position, nearest)
    elif padding != "zeros":
        raise ValueError(f"{padding=} is unknown; it is 'zeros' or 'border'.")
    left = jnp.floor(position)
    f = (position - left)[..., None]
    offset = jnp.arange(size) - left[..., None]  # [..., n, size]
    return jnp.where(offset == 0, 1 - f, jnp.where(offset == 1, f, 0.0))


def pixel_centers(size: int) -> Array:
    """Coordinates in [-1, 1] of the centres of `size` pixels, `[size]`."""
    return (2 * jnp.arange(size) + 1) / size - 1


def grid_centers(grid_size: int) -> Array:
    """(x, y) in [-1, 1] of the centres of G x G cells, row by row: `[G G, 2]`."""
    centers = pixel_centers(grid_size)
    y, x = jnp.meshgrid(centers, centers, indexing="ij")
    return jnp.stack([x.ravel(), y.ravel()], axis=-1)


def corners(where: Array) -> Array:
    """Boxes (sx, sy, tx, ty), `[..., 4]`, as (y0, x0, y1, x1) in [0, 1] of the image, clipped."""
    size, center = where[..., :2], where[..., 2:]
    low, high = (center - size + 1) / 2, (center + size + 1) / 2  # (x, y)
    return jnp.clip(jnp.concatenate([low[..., ::-1], high[..., ::-1]], axis=-1), 0, 1)


def _components(where: Array) -> tuple[Array, ...]:
    """sx, sy, tx, ty, each `[..., 1]`."""
    return tuple(jnp.split(where, 4, axis=-1))
