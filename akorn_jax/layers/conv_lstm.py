"""The convolutional LSTM (arXiv 1506.04214), without peepholes, from a learned initial state."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.subpixel import Conv

Array = jax.Array


class ConvLSTM(nnx.Module):
    """One step of an LSTM whose state is a map; a single convolution computes all gates.

        i, f, o = sigmoid(...), g = tanh(...) of W * [x, h] + b
        c' = f c + i g,  h' = o tanh(c')

    Args:
        in_features: channels of the input x.
        features: C, channels of the state.
        grid_size: G, rows and columns of the state.
        kernel_size: of W, odd.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        grid_size: int,
        kernel_size: int = 1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.h_0 = nnx.Param(jnp.zeros((grid_size, grid_size, features)))
        self.c_0 = nnx.Param(jnp.zeros((grid_size, grid_size, features)))
        self.gates = Conv(in_features + features, 4 * features, kernel_size, rngs=rngs)

    def initial_state(self, batch_size: int) -> tuple[Array, Array]:
        """The learned (h, c), each `[B, G, G, C]`."""
        shape = (batch_size, *self.h_0.shape)
        return jnp.broadcast_to(self.h_0[...], shape), jnp.broadcast_to(self.c_0[...], shape)

    def __call__(self, x: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Input x `[B, G, G, in_features]` and state (h, c) to the next state."""
        h, c = state
        i, f, o, g = jnp.split(self.gates(jnp.concatenate([x, h], axis=-1)), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c
