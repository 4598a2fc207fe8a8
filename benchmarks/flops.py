"""Floating-point operations of matrix products and convolutions, counted in a traced program.

XLA's own count (`cost_analysis`) takes the body of a loop once, however often it runs, and counts
elementwise work, which depends on how it was fused. Here loops count with their trips and nothing
is counted but products: what published FLOP counts of networks mean.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count(function: Callable[..., Any], *args: Any) -> int:
    """FLOPs of `function(*args)`; a multiply-add is two. Arguments may be shapes."""
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * _size(equation) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
        inserted = math.prod(parameters["lhs_dilation"])  # zeros between rows cost nothing
        return 2 * _size(equation) * (kernel.size // outputs) // inserted
    if name == "while":
        raise ValueError("How often a `while` runs is not known beforehand; use `scan`.")
    if name == "cond":
        return max(_of_jaxpr(branch.jaxpr) for branch in parameters["branches"])
    trips = parameters["length"] if name == "scan" else 1
    return trips * sum(
        _of_jaxpr(part.jaxpr if isinstance(part, ClosedJaxpr) else part)
        for part in parameters.values()
        if isinstance(part, ClosedJaxpr | Jaxpr)
    )


def _size(equation: JaxprEqn) -> int:
    return equation.outvars[0].aval.size
