"""The spatial broadcast decoder (arXiv 1901.07017) whose convolutions have no padding."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.subpixel import Conv

Array = jax.Array


class UnpaddedDecoder(nnx.Module):
    """A latent is repeated over a grid, told the positions, and convolved to a map.

    Each of the 3 x 3 convolutions eats a border of one pixel, so the grid is that much larger than
    the map, and every pixel of the map is made in the same way. A 1 x 1 convolution follows them.

    Args:
        in_features: D of the latent.
        channels: of the 3 x 3 convolutions.
        out_features: channels of the map.
        num_layers: of 3 x 3 convolutions.
        activation: behind each of them.
        batch_norm: normalise before the activations.
    """

    def __init__(
        self,
        in_features: int,
        channels: int,
        out_features: int,
        *,
        num_layers: int = 4,
        activation: Callable[[Array], Array] = jax.nn.relu,
        batch_norm: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        widths = [in_features + 2] + [channels] * num_layers
        self.in_features = in_features
        self.activation = activation
        self.layers = nnx.List(
            Conv(i, o, 3, padding=0, rngs=rngs) for i, o in itertools.pairwise(widths)
        )
        self.norms = nnx.List(BatchNorm(channels) for _ in range(num_layers if batch_norm else 0))
        self.out = Conv(channels, out_features, 1, rngs=rngs)

    def __call__(self, z: Array, size: tuple[int, int], *, train: bool = False) -> Array:
        """Latents `[N, D]` to maps `[N, h, w, out_features]`.

        Args:
            z: latents.
            size: (h, w).
            train: see `BatchNorm`.
        """
        x = self._broadcast(z, size)
        for i, layer in enumerate(self.layers):
            if i > 0:
                x = layer(x)
            if self.norms:
                x = self.norms[i](x, train=train)
            x = self.activation(x)
        return self.out(x)

    def _broadcast(self, z: Array, size: tuple[int, int]) -> Array:
        """The first convolution of what is constant over the grid and of what is in all latents.

        A convolution without padding maps constants to constants: the grid of latents is never
        made, which would be the largest array of all.
        """
        first, D = self.layers[0], self.in_features
        border = 2 * len(self.layers)
        rows, columns = (jnp.linspace(-1, 1, n + border) for n in size)
        grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)[None]
        position = jax.lax.conv_general_dilated(
            grid,
            first.kernel[:, :, D:],
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        constant = z @ jnp.sum(first.kernel[:, :, :D], axis=(0, 1))
        return constant[:, None, None] + position + first.bias[...]
