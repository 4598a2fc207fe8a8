"""All randomness of a model's call, one draw per call, so that a test can record and replay it."""

import jax
import jax.numpy as jnp

Array = jax.Array


class Noise:
    """Draws in the order of calls: the n-th draw depends on the key and n alone.

    The first is that of the key itself, so a model that draws once needs no rule to be understood.

    What a loop needs is drawn before it, with a leading axis: `noise.normal((T, B, D))`. A test
    hands in a subclass that returns recorded arrays instead.

    Args:
        key: a JAX random key.
    """

    def __init__(self, key: Array) -> None:
        self._key = key
        self._draws = 0

    @classmethod
    def of(cls, key: "Array | Noise | None") -> "Noise":
        """A model's `key` argument as noise.

        Raises:
            ValueError: there is no key.
        """
        if key is None:
            raise ValueError("This model draws random numbers: pass key=jax.random.key(...).")
        return key if isinstance(key, Noise) else cls(key)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normals, float32."""
        return jax.random.normal(self._next(), shape)

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Uniform numbers in (0, 1), float32: never 0, so that logarithms are finite."""
        smallest = float(jnp.finfo(jnp.float32).tiny)
        return jax.random.uniform(self._next(), shape, minval=smallest)

    def exponential(self, shape: tuple[int, ...]) -> Array:
        """Draws of Exp(1), float32; -log of one is a Gumbel draw."""
        return -jnp.log(self.uniform(shape))

    def permutation(self, n: int) -> Array:
        """A permutation of 0 ... n - 1, `[n]` int32."""
        return jax.random.permutation(self._next(), n)

    def _next(self) -> Array:
        draws, self._draws = self._draws, self._draws + 1
        return jax.random.fold_in(self._key, draws) if draws else self._key
