"""Linear maps with layer norm, as GNM has them."""

import itertools
from collections.abc import Sequence

import jax
from flax import nnx

from akorn_jax.layers.elu import elu
from akorn_jax.layers.linear import linear

Array = jax.Array


class NormedMLP(nnx.Module):
    """Linear maps, each with ELU and layer norm behind it; the last one is bare if told so."""

    def __init__(
        self, in_features: int, features: Sequence[int], *, bare: bool = True, rngs: nnx.Rngs
    ) -> None:
        widths = [in_features, *features]
        normed = features[:-1] if bare else features
        self.layers = nnx.List(linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths))
        self.norms = nnx.List(
            nnx.LayerNorm(n, epsilon=1e-5, use_fast_variance=False, rngs=rngs) for n in normed
        )

    def __call__(self, x: Array) -> Array:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.norms):
                x = self.norms[i](elu(x))
        return x
