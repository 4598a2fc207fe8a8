"""One grammar for learning rates, weights, temperatures and options that follow the step.

A spec is a number, which is constant, or a mapping with a `name`:

    {"name": "constant", "value": v}
    {"name": "linear", "start": a, "stop": b, "steps": n, "begin": 0}
    {"name": "cosine", "start": a, "stop": b, "steps": n, "begin": 0}
    {"name": "exponential", "value": v, "rate": r, "steps": n, "begin": 0, "floor": 0}
    {"name": "piecewise", "values": (v0, v1, ...), "boundaries": (n1, ...)}
    {"name": "one_cycle", "peak": v, "steps": n, "warmup_share": 0.3, "start_factor": 1 / 25,
     "stop_factor": 1e-4}
    {"name": "warmup", "steps": n, "then": spec, "offset": 0}

A schedule is a function of t, the number of updates made before, an int or an array.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.errors import UserError

Array = jax.Array
Schedule = Callable[[Any], Any]


def make(spec: float | Mapping[str, Any], where: str = "schedule") -> Schedule:
    """The schedule of a spec.

    Args:
        spec: see above.
        where: what messages call it, e.g. "config.task.options.temperature".

    Raises:
        UserError: in one line, for a name, field or value that is not known.
    """
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        return constant(value=spec)
    if not isinstance(spec, Mapping):
        raise UserError(f"{where}={spec!r}: give a number or a schedule, e.g. {{'name': 'linear'}}")
    fields = dict(spec)
    name = fields.pop("name", None)
    if name not in SCHEDULES:
        raise UserError(f"{where}.name={name!r}: choose one of {', '.join(SCHEDULES)}")
    known = inspect.signature(SCHEDULES[name]).parameters
    for field in fields:
        if field not in known:
            near = difflib.get_close_matches(field, list(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"{name} has {', '.join(known)}"
            raise UserError(f"{where}.{field}={fields[field]!r}: no such field; {hint}")
    for field, parameter in known.items():
        if parameter.default is parameter.empty and field not in fields:
            raise UserError(f"{where}.{field} is missing; {name} has {', '.join(known)}")
    if name == "warmup":
        fields["then"] = make(fields["then"], f"{where}.then")
    try:
        return SCHEDULES[name](**fields)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def constant(*, value: float) -> Schedule:
    """v at every step."""

    def schedule(t: Any) -> Any:
        return _namespace(t).full_like(_float(t), value)

    return schedule


def linear(*, start: float, stop: float, steps: int, begin: int = 0) -> Schedule:
    """From `start`, at step `begin` and before, to `stop` in `steps` steps."""
    _positive(steps=steps)

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        share = xp.clip((_float(t) - begin) / steps, 0.0, 1.0)
        return start + (stop - start) * share

    return schedule


def cosine(*, start: float, stop: float, steps: int, begin: int = 0) -> Schedule:
    """As `linear`, along half a cosine."""
    _positive(steps=steps)

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        share = xp.clip((_float(t) - begin) / steps, 0.0, 1.0)
        return stop + (start - stop) * 0.5 * (1 + xp.cos(np.pi * share))

    return schedule


def exponential(
    *, value: float, rate: float, steps: float, begin: int = 0, floor: float = 0.0
) -> Schedule:
    """max(floor, v rate^(max(0, t - begin) / steps))."""
    _positive(steps=steps, rate=rate)

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        age = xp.maximum(_float(t) - begin, 0.0)
        return xp.maximum(value * rate ** (age / steps), floor)

    return schedule


def piecewise(*, values: Sequence[float], boundaries: Sequence[int]) -> Schedule:
    """values[i] from step boundaries[i - 1] on."""
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values={tuple(values)} must be one more than boundaries={tuple(boundaries)}"
        )
    if list(boundaries) != sorted(set(boundaries)):
        raise ValueError(f"boundaries={tuple(boundaries)} must ascend")

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        found = _float(t) * 0 + values[0]
        for boundary, value in zip(boundaries, values[1:], strict=True):
            found = xp.where(_float(t) >= boundary, value, found)
        return found

    return schedule


def one_cycle(
    *,
    peak: float,
    steps: int,
    warmup_share: float = 0.3,
    start_factor: float = 1 / 25,
    stop_factor: float = 1e-4,
) -> Schedule:
    """PyTorch's OneCycleLR with cosines: from start_factor peak to peak, then to
    start_factor stop_factor peak.

    A momentum that cycles against the rate is the same schedule with its own numbers: factors
    above 1 and `peak` its lowest value.
    """
    _positive(steps=steps)
    top = warmup_share * steps - 1
    start, stop = start_factor * peak, start_factor * stop_factor * peak

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        t = _float(t)
        up = xp.clip(t / max(top, 1e-12), 0.0, 1.0)
        down = xp.clip((t - top) / (steps - 1 - top), 0.0, 1.0)
        rising = peak + (start - peak) * 0.5 * (1 + xp.cos(np.pi * up))
        falling = stop + (peak - stop) * 0.5 * (1 + xp.cos(np.pi * down))
        return xp.where(t <= top, rising, falling)

    return schedule


def warmup(*, steps: int, then: Schedule, offset: int = 0) -> Schedule:
    """`then` times min(1, (t + offset) / steps)."""
    _positive(steps=steps)

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        return xp.minimum(1.0, (_float(t) + offset) / steps) * then(t)

    return schedule


SCHEDULES = {
    f.__name__: f for f in (constant, linear, cosine, exponential, piecewise, one_cycle, warmup)
}


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r} must be above 0")


def _namespace(t: Any) -> Any:
    return jnp if isinstance(t, jax.Array) else np


def _float(t: Any) -> Any:
    return jnp.asarray(t, jnp.float32) if isinstance(t, jax.Array) else np.asarray(t, np.float64)
