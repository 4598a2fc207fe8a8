"""GECO (arXiv 1810.00597): a multiplier that balances a reconstruction error against a KL.

Minimising the KL subject to error <= goal needs a Lagrange multiplier. It is moved after every step
by a moving average of the constraint, C = goal - error, which is positive where the model is better
than the goal. Two published forms:

- `Exponential` (GENESIS-V2, arXiv 2104.09958) weighs the *KL*: error + beta KL. beta grows
  exponentially while C > 0.
- `Softplus` (Efficient MORL, arXiv 2106.03849) weighs the *error*: softplus(beta) error + KL. beta
  falls by a multiple of C, down to a floor.

A multiplier's state is a dict of float32 scalars that a training keeps beside its parameters:
"beta"; "constraint", the moving average of C; "started", 1 once "constraint" holds one.
"""

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp

Array = jax.Array
State = dict[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geco(abc.ABC):
    """What the two forms share. Build one with `make`.

    Args:
        goal: of the error, in its unit: per image, summed over pixels and channels.
        step_size: how far beta moves for a constraint of 1.
        decay: of the moving average, in [0, 1).
        start: the first step at which the multiplier counts.
        beta: its initial value.

    Raises:
        ValueError: a setting is out of its range.
    """

    goal: float
    step_size: float
    decay: float = 0.99
    start: int = 0
    beta: float

    def __post_init__(self) -> None:
        require(self, "goal", math.isfinite(self.goal), "finite")
        require(self, "step_size", 0 < self.step_size < math.inf, "positive and finite")
        require(self, "decay", 0 <= self.decay < 1, "in [0, 1)")
        require(self, "start", self.start >= 0, "at least 0")
        require(self, "beta", math.isfinite(self.beta), "finite")

    def init(self) -> State:
        """The state before the first update."""
        beta, zero = jnp.float32(self.beta), jnp.zeros((), jnp.float32)
        return {"beta": beta, "constraint": zero, "started": zero}

    @abc.abstractmethod
    def weight(self, state: State, step: Array | int) -> Array:
        """The weight at a step, `[]` float32, of the term that this form weighs."""

    def update(self, state: State, error: Array, step: Array | int) -> State:
        """The state after a step.

        Args:
            state: the one before, which gave the weight of this step.
            error: `[]`, the mean over the whole batch; no gradient passes.
            step: of the training, from 0. Before `start` nothing changes.
        """
        C = self.goal - jax.lax.stop_gradient(jnp.asarray(error, jnp.float32))
        first = state["started"] == 0
        constraint = self.decay * state["constraint"] + (1 - self.decay) * C
        constraint = jnp.where(first, C, constraint)
        after = {
            "beta": self._move(state["beta"], constraint, first),
            "constraint": constraint,
            "started": jnp.ones_like(state["started"]),
        }
        return jax.tree.map(lambda a, b: jnp.where(step >= self.start, a, b), after, state)

    @abc.abstractmethod
    def _move(self, beta: Array, constraint: Array, first: Array) -> Array:
        """The next beta; `first` where the constraint has only just begun."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Geco):
    """GENESIS-V2's: beta <- clip(beta exp(step_size s C), beta_min, beta_max).

    The weight is beta, for the KL, and 1 before `start`.

    Args:
        speedup: s where C > 0; 1 elsewhere.
        beta_min, beta_max: beta's range.
    """

    beta: float = 1.0
    speedup: float = 10.0
    beta_min: float = 1e-10
    beta_max: float = 1e10

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "speedup", 0 < self.speedup < math.inf, "positive and finite")
        require(self, "beta_min", 0 < self.beta_min <= self.beta, "positive and at most beta")
        require(self, "beta_max", self.beta <= self.beta_max < math.inf, "finite, at least beta")

    def weight(self, state: State, step: Array | int) -> Array:
        return jnp.where(step >= self.start, state["beta"], 1.0)

    def _move(self, beta: Array, constraint: Array, first: Array) -> Array:
        s = jnp.where(constraint > 0, self.speedup, 1.0)
        # An infinite factor is clipped like any other: beta is never 0.
        beta = beta * jnp.exp(self.step_size * s * constraint)
        return jnp.clip(beta, self.beta_min, self.beta_max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Softplus(Geco):
    """Efficient MORL's: beta <- max(beta_min, beta - step_size C), from the second update on.

    The weight is softplus(beta), for the error, and 1 before `start`.

    Args:
        beta_min: beta's floor. softplus(0.55) = 1.0055.
    """

    beta: float = 0.55
    beta_min: float = 0.55

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "beta_min", -math.inf < self.beta_min <= self.beta, "finite, at most beta")

    def weight(self, state: State, step: Array | int) -> Array:
        return jnp.where(step >= self.start, jax.nn.softplus(state["beta"]), 1.0)

    def _move(self, beta: Array, constraint: Array, first: Array) -> Array:
        moved = jnp.maximum(self.beta_min, beta - self.step_size * constraint)
        return jnp.where(first, beta, moved)


FORMS = {"exponential": Exponential, "softplus": Softplus}


def make(form: str, **settings: float) -> Geco:
    """A multiplier by the name of its form, "exponential" or "softplus".

    Raises:
        ValueError: the form or a setting is unknown, or a setting is out of its range.
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r} is unknown; it is one of {', '.join(FORMS)}.")
    known = [field.name for field in dataclasses.fields(FORMS[form])]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"{name}={settings[name]!r}: the {form} form has no such setting; it has "
                f"{', '.join(known)}."
            )
    for name in ("goal", "step_size"):
        if settings.get(name) is None:
            raise ValueError(f"{name} is missing; give a number.")
    return FORMS[form](**settings)


def require(geco: Geco, name: str, holds: bool, condition: str) -> None:
    """Raises a ValueError that names a setting unless it holds."""
    if not holds:
        raise ValueError(f"{name}={getattr(geco, name)!r} must be {condition}.")
