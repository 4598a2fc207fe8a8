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
    return jax.nn.elu(x)


def _forward(x: Array) -> tuple[Array, Array]:
    y = elu(x)  # by the rule of its own: a gradient inside another one is to use it too
    return y, y


def _backward(y: Array, dy: Array) -> tuple[Array]:
    return (jnp.where(y > 0, dy, (y + 1) * dy),)


elu.defvjp(_forward, _backward)
