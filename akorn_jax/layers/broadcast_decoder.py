"""The spatial broadcast decoder (arXiv 1901.07017), in the three forms used with Slot Attention."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.convolution import transposed_conv
from akorn_jax.layers.linear import pointwise
from akorn_jax.layers.slot_encoder import activation_function
from akorn_jax.layers.soft_position import SoftPosition

Array = jax.Array

DECODERS = ("stationary", "expanding", "up_convolve")


class Upsample(nnx.Module):
    """A convolution of `[B, h, w, in]` with stride 1 / s: `[B, s h, s w, out]`.

    For s > 1 it is a transposed convolution, see `transposed_conv`.

    Args:
        stride: s, 1 or 2.
        init: of the kernel and the bias; None is Glorot's for the kernel and a bias of 0.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: int,
        stride: int,
        *,
        init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        kernel_init = init or nnx.initializers.glorot_uniform()
        bias_init = init or nnx.initializers.zeros_init()
        shape = (kernel_size, kernel_size, in_features, features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape))
        self.bias = nnx.Param(bias_init(rngs.params(), (features,)))
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        if self.kernel.shape[:2] == (1, 1) and self.stride == 1:
            return pointwise(x, self.kernel[0, 0], self.bias[...])
        x = transposed_conv(x, self.kernel[...], self.stride)
        return x + self.bias[...]


class BroadcastDecoder(nnx.Module):
    """Each slot, alone, to an image and the logits of its mask.

    The slot is repeated over a grid, told the positions and run through convolutions with an
    activation between them; the last one, at most 3 x 3, gives red, green, blue and the logit.

    Args:
        image_size: H = W.
        slot_size: S.
        channels: of all layers.
        kind: "stationary": the grid is the image's, `num_layers` - 1 layers.
            "expanding": the grid is H / 2^`num_layers`; `num_layers` layers double it, one more
            follows. "up_convolve": the same without the one more.
        num_layers: as many as the encoder has.
        kernel_size: odd; 1 makes a "stationary" decoder an MLP of a slot and a position.
        activation: "relu" or "leaky_relu".
    """

    def __init__(
        self,
        image_size: int,
        slot_size: int,
        channels: int,
        *,
        kind: str,
        num_layers: int = 4,
        kernel_size: int = 5,
        activation: str = "relu",
        rngs: nnx.Rngs,
    ) -> None:
        if kind not in DECODERS:
            raise ValueError(f"decoder={kind!r} is unknown; it is one of {', '.join(DECODERS)}.")
        strides = {
            "stationary": [1] * (num_layers - 1),
            "expanding": [2] * num_layers + [1],
            "up_convolve": [2] * num_layers,
        }[kind]
        growth = 2 ** strides.count(2)
        if image_size % growth:
            raise ValueError(
                f"decoder={kind!r} makes images whose size is a multiple of {growth}, not "
                f"image_size={image_size}; take 'stationary' or another size."
            )
        self.kind = kind
        self.grid_size = image_size // growth
        self.activation = activation_function(activation)
        self.position = SoftPosition(slot_size, rngs=rngs)
        self.layers = nnx.List(
            Upsample(channels if i else slot_size, channels, kernel_size, stride, rngs=rngs)
            for i, stride in enumerate(strides)
        )
        self.out = Upsample(channels, 4, min(3, kernel_size), 1, rngs=rngs)

    def __call__(self, slots: Array) -> tuple[Array, Array]:
        """Slots `[B, K, S]` to images `[B, K, H, W, 3]` and logits `[B, K, H, W]`."""
        B, K, S = slots.shape
        x = jnp.broadcast_to(
            slots.reshape(B * K, 1, 1, S), (B * K, self.grid_size, self.grid_size, S)
        )
        x = self.position(x)
        for layer in self.layers:
            x = self.activation(layer(x))
        x = self.out(x)
        x = x.reshape(B, K, *x.shape[1:])
        return x[..., :3], x[..., 3]
