"""The gated recurrent unit of Slot Attention, in the form that Keras and PyTorch share."""

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


class GRU(nnx.Module):
    """One step of a GRU whose reset gate acts after the state's linear map.

        z = sigmoid(Wz x + Uz h + b + b'),  r = sigmoid(Wr x + Ur h + b + b')
        n = tanh(Wn x + b + r (Un h + b')),  h' = (1 - z) n + z h

    Both kernels `[D, 3 D]` and the biases b, b' `[2, 3 D]` hold the gates in the order z, r, n.

    Args:
        features: D, of the input and of the state.
        init: of all parameters, e.g. `uniform_fan_in(features)`, which is PyTorch's; None is
            Keras's: Glorot-uniform and orthogonal kernels, biases of 0.
    """

    def __init__(
        self, features: int, *, init: nnx.Initializer | None = None, rngs: nnx.Rngs
    ) -> None:
        shape = (features, 3 * features)
        input_init = init or nnx.initializers.glorot_uniform()
        state_init = init or nnx.initializers.orthogonal()
        bias_init = init or nnx.initializers.zeros_init()
        self.input_kernel = nnx.Param(input_init(rngs.params(), shape))
        self.state_kernel = nnx.Param(state_init(rngs.params(), shape))
        self.bias = nnx.Param(bias_init(rngs.params(), (2, 3 * features)))

    def __call__(self, x: Array, h: Array) -> Array:
        """Input x `[..., D]` and state h `[..., D]` to the next state `[..., D]`."""
        x_z, x_r, x_n = jnp.split(x @ self.input_kernel[...] + self.bias[0], 3, axis=-1)
        h_z, h_r, h_n = jnp.split(h @ self.state_kernel[...] + self.bias[1], 3, axis=-1)
        z = jax.nn.sigmoid(x_z + h_z)
        r = jax.nn.sigmoid(x_r + h_r)
        n = jnp.tanh(x_n + r * h_n)
        return (1 - z) * n + z * h
