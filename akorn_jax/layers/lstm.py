"""The long short-term memory in PyTorch's form."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import uniform_fan_in

Array = jax.Array


class LSTM(nnx.Module):
    """One step of an LSTM with PyTorch's two biases and its initialisation, U(±1/sqrt(D)).

        i, f, o = sigmoid(W x + b + U h + b'),  g = tanh(W x + b + U h + b')
        c' = f c + i g,  h' = o tanh(c')

    where i, f, g and o have each their own W, U, b and b'. The kernels W `[in_features, 4 D]` and
    U `[D, 4 D]` and the biases b, b' `[2, 4 D]` hold them in PyTorch's order i, f, g, o. No forget
    gate is biased towards remembering.

    Args:
        in_features: of the input x.
        features: D, of the state.
    """

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs) -> None:
        init = uniform_fan_in(features)
        self.input_kernel = nnx.Param(init(rngs.params(), (in_features, 4 * features)))
        self.state_kernel = nnx.Param(init(rngs.params(), (features, 4 * features)))
        self.bias = nnx.Param(init(rngs.params(), (2, 4 * features)))

    def initial_state(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """(h, c) of zeros, each `[*shape, D]`."""
        zeros = jnp.zeros((*shape, self.state_kernel.shape[0]))
        return zeros, zeros

    def __call__(self, x: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Input x `[..., in_features]` and state (h, c) to the next state, each `[..., D]`."""
        h, c = state
        gates = x @ self.input_kernel[...] + h @ self.state_kernel[...]
        i, f, g, o = jnp.split(gates + self.bias[0] + self.bias[1], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c
