"""The spatial broadcast decoder (arXiv 1901.07017) with convolutions without padding.

MONet, IODINE, Efficient MORL, SPACE and SPAIR share it; Slot Attention's forms are in
`broadcast_decoder`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.broadcast_add import add_to_each
from akorn_jax.layers.linear import uniform_fan_in
from akorn_jax.layers.soft_position import SoftPosition, centred_grid
from akorn_jax.layers.tap_convolution import TapConv, convolve

Array = jax.Array

POSITIONS = ("append", "add")


class ValidBroadcastDecoder(nnx.Module):
    """Each slot, alone, to an image-sized map.

    The slot is repeated over a grid that is larger than the image by what convolutions without
    padding ("valid") take off its border, and told the positions; `num_layers` convolutions 3 x 3
    with an activation and a last one without follow. No parameter depends on the image's size.

    Args:
        slot_size: S.
        channels: C, of all layers but the last.
        out_features: of the last.
        num_layers: convolutions before the last.
        out_kernel_size: of the last, odd.
        position: "append" the coordinates (y, x) in [-1, 1] to the slot, or "add" a learned linear
            map of the position, `SoftPosition`.
        activation: e.g. `elu`.
        batch_norm: normalise in front of the activations.
        init: of kernels, with biases of 0; None is PyTorch's uniform for both.
    """

    def __init__(
        self,
        slot_size: int,
        channels: int,
        out_features: int = 4,
        *,
        num_layers: int = 4,
        out_kernel_size: int = 1,
        position: str,
        activation: Callable[[Array], Array],
        batch_norm: bool = False,
        init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if position not in POSITIONS:
            raise ValueError(f"{position=} is unknown; it is one of {', '.join(POSITIONS)}.")

        def conv(inputs: int, outputs: int, kernel_size: int) -> TapConv:
            torch_init = uniform_fan_in(inputs * kernel_size**2)
            return TapConv(
                inputs,
                outputs,
                kernel_size,
                kernel_init=init or torch_init,
                bias_init=torch_init if init is None else nnx.initializers.zeros_init(),
                rngs=rngs,
            )

        inputs = slot_size + 2 if position == "append" else slot_size
        self.border = 2 * num_layers + out_kernel_size - 1
        self.activation = activation
        if position == "add":
            self.position = SoftPosition(
                slot_size,
                kernel_init=init or uniform_fan_in(4),
                bias_init=uniform_fan_in(4) if init is None else None,
                rngs=rngs,
            )
        else:
            self.position = None
        self.layers = nnx.List(
            conv(channels if i else inputs, channels, 3) for i in range(num_layers)
        )
        self.norms = nnx.List(BatchNorm(channels) for _ in range(num_layers if batch_norm else 0))
        self.out = conv(channels, out_features, out_kernel_size)

    def __call__(self, slots: Array, height: int, width: int, *, train: bool = False) -> Array:
        """Slots `[B, K, S]` to maps `[B, K, H, W, out_features]`; see `BatchNorm` for `train`."""
        B, K, S = slots.shape
        x = self._first(slots.reshape(B * K, S), height, width)
        for i, layer in enumerate(self.layers):
            x = layer(x) if i else x
            x = self.norms[i](x, train=train) if self.norms else x
            x = self.activation(x)
        x = self.out(x)
        return x.reshape(B, K, *x.shape[1:])

    def _first(self, slots: Array, height: int, width: int) -> Array:
        """The first convolution, of slots `[N, S]` that are never repeated over the grid.

        It is linear: of what is the same everywhere, it is one product a slot; of positions, it is
        the same for all slots.
        """
        S = slots.shape[-1]
        size = (height + self.border, width + self.border)
        kernel, bias = self.layers[0].kernel[...], self.layers[0].bias[...]
        if self.position is None:
            positions, position_kernel = jnp.asarray(centred_grid(*size)), kernel[:, :, S:]
        else:
            positions, position_kernel = self.position.table(*size), kernel
        of_positions = convolve(positions[None].astype(kernel.dtype), position_kernel)[0]
        of_slots = slots.astype(kernel.dtype) @ kernel[:, :, :S].sum(axis=(0, 1)) + bias
        everywhere = (len(slots), *of_positions.shape)  # [N, H', W', C]
        return add_to_each(jnp.broadcast_to(of_slots[:, None, None], everywhere), of_positions)
