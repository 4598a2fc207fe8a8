"""Which parameters compute in `config.dtype`, and which in float32 whatever it says.

Products inside a network's loops, nearly all of its operations, may be bfloat16. OnDisk parameters,
norms, softmax, oscillators and residual streams are float32 all the same. So is what enters AKOrN's
and the iterated networks' loops and what is read off them: it is little work, and there rounding
harms the gradient most. Those layers mark their parameters with `KEEP`; a module computes in the
type of its parameters.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

PyTree = Any

# Metadata of a parameter, as in `nnx.Param(value, **KEEP)`.
KEEP: Mapping[str, bool] = {"keep_float32": True}


def cast(params: PyTree, dtype: str) -> PyTree:
    """Parameters of `nnx.split` in the type that they compute in."""

    def of(param: nnx.Variable) -> nnx.Variable:
        if param.get_metadata().get("keep_float32", False):
            return param
        return jax.tree.map(lambda p: p.astype(dtype), param)

    return jax.tree.map(of, params, is_leaf=lambda p: isinstance(p, nnx.Variable))
