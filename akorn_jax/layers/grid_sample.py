"""Images at arbitrary points: the spatial transformer (arXiv 1506.02025) of any warp of the plane.

Coordinates run from -1 to 1 between the outer edges of the border pixels, x to the right and y
down, which is PyTorch's `align_corners=False`. Upright boxes and pure shifts need no gather:
`layers.spatial_transformer` does them with two products.
"""

import jax
import jax.numpy as jnp

from akorn_jax.layers.spatial_transformer import pixel_centers

Array = jax.Array

EPSILON = 1e-8  # of the homogeneous coordinate


def grid_sample(images: Array, points: Array, *, padding: str = "zeros") -> Array:
    """Images at points, bilinearly.

    The derivative with respect to a point is the one from the right where the point meets a pixel,
    as in PyTorch; with padding "border" it is zero outside the image.

    Args:
        images: `[*b, H, W, C]`.
        points: (x, y), `[*b, h, w, 2]`; the leading axes of both broadcast.
        padding: what lies outside the image: "zeros" or "border" (the nearest pixel).

    Returns:
        `[*b, h, w, C]`.

    Raises:
        ValueError: the padding is another.
    """
    if padding not in ("zeros", "border"):
        raise ValueError(f"{padding=} is unknown; it is 'zeros' or 'border'.")
    batch = jnp.broadcast_shapes(images.shape[:-3], points.shape[:-3])
    H, W, C = images.shape[-3:]
    h, w = points.shape[-3:-1]
    pixels = jnp.broadcast_to(images, (*batch, H, W, C)).reshape(-1, H * W, C)
    points = jnp.broadcast_to(points, (*batch, h, w, 2)).reshape(-1, h * w, 2)
    size = jnp.array([W, H], points.dtype)
    position = ((points + 1) * size - 1) / 2  # in pixels
    if padding == "border":
        inside = (position > 0) & (position < size - 1)
        nearest = jax.lax.stop_gradient(jnp.clip(position, 0, size - 1))
        position = jnp.where(inside, position, nearest)
    corner = jnp.floor(jax.lax.stop_gradient(position))
    f = position - corner
    sampled = jnp.zeros((*pixels.shape[:1], h * w, C), pixels.dtype)
    for right in (0, 1):
        for below in (0, 1):
            tap = corner + jnp.array([right, below], corner.dtype)
            inside = jnp.all((tap >= 0) & (tap < size), axis=-1)
            # Far points would overflow an integer; taps outside weigh nothing.
            x, y = jnp.moveaxis(jnp.clip(tap, 0, size - 1).astype(jnp.int32), -1, 0)
            taken = jnp.take_along_axis(pixels, (y * W + x)[..., None], axis=1)
            weight = (f[..., 0] if right else 1 - f[..., 0]) * (
                f[..., 1] if below else 1 - f[..., 1]
            )
            sampled += jnp.where(inside, weight, 0.0)[..., None] * taken
    return sampled.reshape(*batch, h, w, C)


def affine_points(theta: Array, size: tuple[int, int]) -> Array:
    """The points that an affine map gives to the pixel centres of an image.

    Args:
        theta: `[*b, 2, 3]`, from (x, y, 1) of the output to (x, y) of the input.
        size: (h, w) of the output.

    Returns:
        `[*b, h, w, 2]`.
    """
    y, x = jnp.meshgrid(*map(pixel_centers, size), indexing="ij")
    linear, shift = theta[..., None, None, :, :2], theta[..., None, None, :, 2]
    return linear[..., 0] * x[..., None] + linear[..., 1] * y[..., None] + shift


def projective_points(matrix: Array, size: tuple[int, int]) -> Array:
    """The points that a homography gives to an evenly spaced grid over an image.

    The grid's first and last points are the corners (-1, -1) and (1, 1), not the centres of the
    corner pixels: that is kornia's `homography_warp`, which DTI-Sprites was trained with. The
    identity matrix hence takes pixel i from i W / (W - 1) - 1/2, half a pixel off at the borders.

    Args:
        matrix: `[*b, 3, 3]`, from (x, y, 1) of the output to homogeneous coordinates of the input.
            Where the third of them vanishes, the first two are taken undivided.
        size: (h, w) of the output.

    Returns:
        `[*b, h, w, 2]`.
    """
    y, x = jnp.meshgrid(*(jnp.linspace(-1, 1, n) for n in size), indexing="ij")
    m = matrix[..., None, None, :, :]
    point = m[..., 0] * x[..., None] + m[..., 1] * y[..., None] + m[..., 2]  # [*b, h, w, 3]
    z = point[..., 2:]
    finite = jnp.abs(z) > EPSILON
    return point[..., :2] * jnp.where(finite, 1 / jnp.where(finite, z + EPSILON, 1.0), 1.0)
