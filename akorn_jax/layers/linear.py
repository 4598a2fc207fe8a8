"""Linear maps with PyTorch's default initialisation.

All reference systems start from it: weight and bias uniform in ±1/sqrt(fan_in). Channels are last.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.precision import KEEP

Array = jax.Array


def uniform_fan_in(fan_in: int) -> Callable[..., Array]:
    """The initialiser U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5

    def init(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def xavier_normal(gain: float = 1.0) -> nnx.Initializer:
    """The initialiser N(0, gain^2 2 / (fan_in + fan_out)), PyTorch's, which truncates nothing."""
    return nnx.initializers.variance_scaling(gain**2, "fan_avg", "normal")


class Linear(nnx.Linear):
    """`[..., in_features]` to `[..., out_features]`, as one product of two matrices.

    It is computed in the type of the weights, whatever that of x. The gradient of a product over
    several leading dimensions transposes its operands, which costs XLA's CPU backend more than the
    product.
    """

    def __call__(self, x: Array) -> Array:
        y = super().__call__(x.reshape(-1, x.shape[-1]).astype(self.kernel.dtype))
        return y.reshape(*x.shape[:-1], -1)


def linear(
    in_features: int,
    out_features: int,
    *,
    use_bias: bool = True,
    keep_float32: bool = False,
    rngs: nnx.Rngs,
) -> Linear:
    """`[..., in_features]` to `[..., out_features]` from PyTorch's initialisation.

    With `keep_float32` it computes in float32 whatever `config.dtype` is, see `layers.precision`.
    """
    init = uniform_fan_in(in_features)
    metadata = KEEP if keep_float32 else {}
    return Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        kernel_init=init,
        bias_init=init,
        kernel_metadata=metadata,
        bias_metadata=metadata,
        rngs=rngs,
    )


def pointwise(x: Array, kernel: Array, bias: Array) -> Array:
    """x `[..., C]` by a kernel `[C, C']`: a convolution whose kernel has one pixel.

    XLA's convolution of that kind is several times slower on a CPU.
    """
    y = x.reshape(-1, x.shape[-1]) @ kernel + bias
    return y.reshape(*x.shape[:-1], -1)
