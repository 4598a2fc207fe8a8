"""One map that is added to many, whose gradient a CPU sums by a product."""

import jax
import jax.numpy as jnp

Array = jax.Array


@jax.custom_vjp
def add_to_each(many: Array, one: Array) -> Array:
    """`[N, ...] + [...]`, of one type.

    The gradient of `one` is a sum over N. Of arrays that leave the caches, XLA's sum over the first
    axis takes 15 times as long on a CPU as the product with ones.
    """
    return many + one


def _forward(many: Array, one: Array) -> tuple[Array, None]:
    return add_to_each(many, one), None  # by the rule of its own, for gradients inside others


def _backward(_: None, dy: Array) -> tuple[Array, Array]:
    ones = jnp.ones((1, len(dy)), dy.dtype)
    return dy, (ones @ dy.reshape(len(dy), -1)).reshape(dy.shape[1:])


add_to_each.defvjp(_forward, _backward)
