"""A network that hands features on to the next one, beside its result (SPAIR, AAAI 2019)."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear

Array = jax.Array


class PassingMLP(nnx.Module):
    """ReLU layers and a bare one, whose last `passed` outputs, behind a ReLU, go to the next net.

    Args:
        in_features: of the input.
        hidden: widths.
        out_features: of the result.
        passed: further outputs.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        passed: int = 0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        widths = [in_features, *hidden, out_features + passed]
        self.out_features = out_features
        self.layers = nnx.List(linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths))

    def __call__(self, *inputs: Array) -> tuple[Array, Array]:
        """Inputs `[B, ...]`, flattened and joined, to `[B, out_features]` and `[B, passed]`."""
        x = jnp.concatenate([x.reshape(len(x), -1) for x in inputs], axis=-1)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        x = self.layers[-1](x)
        return x[:, : self.out_features], jax.nn.relu(x[:, self.out_features :])
