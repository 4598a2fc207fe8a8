"""The exponential linear unit (arXiv 1511.07289), whose gradient needs nothing but its output."""

import jax
import jax.numpy as jnp

Array = jax.Array


@jax.custom_vjp
def elu(x: Array) -> Array:
    """x where x > 0, exp(x) - 1 elsewhere.

    The derivative is told from the output, which the next layer keeps for its own gradient anyway:
    of large maps, the backward pass keeps one array instead of two.
    """
    # exp(x) - 1 = 2 t / (1 - t), which is exact near 0 too. XLA's expm1, which jax.nn.elu takes, is
    # twice as slow on a CPU, and in some loops thirty times.
    t = jnp.tanh(jnp.minimum(x, 0) / 2)
    return jnp.where(x > 0, x, 2 * t / (1 - t))


def _forward(x: Array) -> tuple[Array, Array]:
    y = elu(x)  # by the rule of its own: a gradient inside another one is to use it too
    return y, y


def _backward(y: Array, dy: Array) -> tuple[Array]:
    return (jnp.where(y > 0, dy, (y + 1) * dy),)


elu.defvjp(_forward, _backward)
