"""Transformations of small images whose parameters are regressed, and start as the identity.

Colour, position and the warps of spatial transformers (arXiv 1506.02025), in the form of
DTI clustering (arXiv 2006.11132): x becomes what its parameters beta make of it, and beta = 0 is
where training starts.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.grid_sample import affine_points, grid_sample, projective_points
from akorn_jax.layers.linear import uniform_fan_in
from akorn_jax.layers.spatial_transformer import pixel_centers, resample

Array = jax.Array
Parameters = dict[str, Array]  # of transformations, by their names

# How many numbers each transformation is predicted by.
NUM_PARAMETERS = {"identity": 0, "color": 6, "position": 3, "similarity": 4, "projective": 9}
# Those that would deform images which are nothing yet: they wait until they are told to act.
DEFORMATIONS = ("similarity", "projective")
SLOPE = 0.01  # of the soft clamp, outside [0, 1]


class Regressors(nnx.Module):
    """MLPs side by side, each with two hidden layers, which predict zeros at first.

    Args:
        shape: of the array of MLPs, e.g. (L, K).
        widths: input, hidden and output size.
    """

    def __init__(
        self, shape: tuple[int, ...], widths: tuple[int, int, int], *, rngs: nnx.Rngs
    ) -> None:
        F, H, d = widths
        self.kernels, self.biases = nnx.List(), nnx.List()
        for before, after, init in (
            (F, H, uniform_fan_in(F)),
            (H, H, uniform_fan_in(H)),
            (H, d, nnx.initializers.zeros),
        ):
            self.kernels.append(nnx.Param(init(rngs.params(), (*shape, before, after))))
            self.biases.append(nnx.Param(init(rngs.params(), (*shape, after))))

    def __call__(self, features: Array) -> Array:
        """Features `[B, F]` to `[*shape, B, d]`."""
        x = features
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            x = nnx.relu(x) if i > 0 else x
            x = x @ kernel[...] + bias[...][..., None, :]
        return x


class Transformations(nnx.Module):
    """A sequence of transformations and what predicts their parameters.

    Args:
        names: keys of `NUM_PARAMETERS`, in their order.
        shape: of the array of sequences; one predicts for each (layer, sprite), say.
        widths: of the features and of the regressors' hidden layers.
        size: (h, w) of the images that come out of a warp; a homography keeps the size.
        padding: what lies outside an image, see `grid_sample`.
    """

    def __init__(
        self,
        names: Sequence[str],
        shape: tuple[int, ...],
        widths: tuple[int, int],
        *,
        size: tuple[int, int],
        padding: str,
        rngs: nnx.Rngs,
    ) -> None:
        for name in names:
            if name not in NUM_PARAMETERS:
                raise ValueError(
                    f"transformation {name!r} is unknown; known: {', '.join(NUM_PARAMETERS)}."
                )
        self.names = tuple(names)
        self.size = size
        self.padding = padding
        self.regressors = nnx.Dict(
            {
                name: Regressors(shape, (*widths, NUM_PARAMETERS[name]), rngs=rngs)
                for name in names
                if name != "identity"
            }
        )

    def predict(self, features: Array) -> Parameters:
        """Features `[B, F]` to the parameters of each transformation, `[*shape, B, d]`."""
        return {name: regressors(features) for name, regressors in self.regressors.items()}

    def apply(self, x: Array, betas: Parameters, deform: Array) -> Array:
        """Images x `[*b, h, w, C]` by parameters `[*b, d]`, whose leading axes broadcast."""
        for name in self.names:
            if name == "identity":
                continue
            beta = betas[name]
            batch = jnp.broadcast_shapes(x.shape[:-3], beta.shape[:-1])
            if name == "color":
                x = color(x, beta)
            elif name == "position":
                x = position(x, beta, self.size, self.padding)
            else:
                warp = similarity if name == "similarity" else projective
                x = jax.lax.cond(
                    deform,
                    lambda x, beta, warp=warp: warp(x, beta, self.padding),
                    lambda x, beta: x,
                    jnp.broadcast_to(x, (*batch, *x.shape[-3:])),
                    beta,
                )
        return x


def soft_clamp(x: Array) -> Array:
    """x in [0, 1] and a slope of 0.01 outside.

    The derivative at 0 and 1 is PyTorch's 1.005: that of a clamp is 1 there, where `jnp.clip` has
    one half.
    """
    outside = jax.lax.stop_gradient(jnp.clip(x, 0, 1))
    clamped = jnp.where((x >= 0) & (x <= 1), x, outside)
    return clamped + SLOPE * jnp.minimum(x, 0) + SLOPE * jnp.maximum(x - 1, 0)


def color(x: Array, beta: Array) -> Array:
    """(1 + w) x + b on the RGB of x `[*b, h, w, C]`; beta `[*b, 6]` is (w, b) of each channel."""
    w, b = jnp.moveaxis(beta.reshape(*beta.shape[:-1], 1, 1, 3, 2), -1, 0)
    rgb = soft_clamp((1 + w) * x[..., :3] + b)
    rest = jnp.broadcast_to(x[..., 3:], (*rgb.shape[:-1], x.shape[-1] - 3))
    return jnp.concatenate([rgb, rest], axis=-1)


def position(x: Array, beta: Array, size: tuple[int, int], padding: str) -> Array:
    """Shrinks x `[*b, h, w, C]` by 1 + exp(s) and shifts it, on a canvas of another size.

    At beta = 0 it covers half of each side of the canvas, and never more than all of it.

    Args:
        beta: (s, x, y) `[*b, 3]`; the shift is in units of the shrunk image.
    """
    scale = 1 + jnp.exp(beta[..., :1])
    rows = scale * pixel_centers(size[0]) + beta[..., 2:]
    columns = scale * pixel_centers(size[1]) + beta[..., 1:2]
    return resample(x, rows, columns, padding=padding)


def similarity(x: Array, beta: Array, padding: str) -> Array:
    """Rotates, scales and shifts x `[*b, h, w, C]`.

    Args:
        beta: (a, b, x, y) `[*b, 4]`; (1 + a, b) are a scale times the cosine and the sine.
    """
    a, b, shift = 1 + beta[..., 0], beta[..., 1], beta[..., 2:]
    linear = jnp.stack([jnp.stack([a, -b], -1), jnp.stack([b, a], -1)], -2)
    theta = jnp.concatenate([linear, shift[..., None]], axis=-1)
    return grid_sample(x, affine_points(theta, x.shape[-3:-1]), padding=padding)


def projective(x: Array, beta: Array, padding: str) -> Array:
    """Warps x `[*b, h, w, C]` by the homography 1 + beta `[*b, 9]`, row by row."""
    matrix = jnp.eye(3) + beta.reshape(*beta.shape[:-1], 3, 3)
    return grid_sample(x, projective_points(matrix, x.shape[-3:-1]), padding=padding)
