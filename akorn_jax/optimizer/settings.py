"""The fields of `config.optimizer`, with every unknown name and value refused in one line."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from akorn_jax.errors import UserError
from akorn_jax.optimizer import schedules

OPTIMIZERS = ("adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "exponential", "plateau")
# Settings that only some schedules read; elsewhere they would be options that do nothing.
SCHEDULE_FIELDS = {
    "decay_rate": ("exponential",),
    "decay_steps": ("exponential",),
    "decay_start": ("exponential",),
    "final_fraction": ("cosine",),
    "plateau_factor": ("plateau",),
    "plateau_patience": ("plateau",),
    "plateau_min": ("plateau",),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `config.optimizer`; None stands for the default named beside it.

    Attributes:
        name: "adam", "adamw" or "rmsprop".
        learning_rate: the rate after warm-up, before decay; or a schedule of
            `optimizer/schedules.py`, in the place of `schedule` and all fields below it.
        b1: decay of the mean of gradients (Adam, AdamW): 0.9; a number or a schedule.
        b2: decay of the mean of squares: 0.999; RMSprop's alpha: 0.99.
        eps: added to the root of the mean of squares.
        weight_decay: 0 = none.
        warmup_steps: the rate is multiplied by min(1, t / warmup_steps); 0 = no warm-up.
        schedule: "constant"; "cosine" from the end of warm-up to `num_steps`; "exponential",
            `decay_rate ** (max(0, t - decay_start) / decay_steps)`, during warm-up too; "plateau",
            multiplied by `plateau_factor` whenever `report` saw no improvement for more than
            `plateau_patience` values.
        decay_rate: of "exponential": 0.5.
        decay_steps: of "exponential", required.
        decay_start: of "exponential": 0.
        final_fraction: of "cosine", the rate at the end as a share of `learning_rate`: 0.
        plateau_factor: of "plateau": 0.1.
        plateau_patience: of "plateau", in reported values: 3.
        plateau_min: of "plateau", the lowest rate: 0.
        clip_norm: largest global L2 norm of the gradients; 0 = no clipping.
        clip_value: largest absolute entry: all gradients are scaled down together; 0 = no clipping.
        multiplier: of the learning rate; set by a group's number.
        groups: pairs (regular expression, settings); a parameter belongs to the first expression
            that matches its whole path, e.g. "encoder/.*/kernel". The settings are a number, which
            multiplies the learning rate (0 freezes the parameters), or a mapping of fields: the
            group inherits `name` and `learning_rate`, the schedule with it where the mapping sets
            neither; all others have their defaults. Clipping is over all parameters that are not
            frozen.
    """

    name: str = "adam"
    learning_rate: float | Mapping[str, Any] = 1e-3
    b1: float | Mapping[str, Any] | None = None
    b2: float | None = None
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: str = "constant"
    decay_rate: float | None = None
    decay_steps: int | None = None
    decay_start: int | None = None
    final_fraction: float | None = None
    plateau_factor: float | None = None
    plateau_patience: int | None = None
    plateau_min: float | None = None
    clip_norm: float = 0.0
    clip_value: float = 0.0
    groups: Sequence[tuple[str, float | Mapping[str, Any]]] = ()
    multiplier: float = 1.0


SCHEDULED = ("learning_rate", "b1")  # take a schedule in the place of a number
GLOBAL_FIELDS = ("clip_norm", "clip_value", "groups", "multiplier")
# field -> (what holds, in words)
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda x: x > 0, "must be above 0"),
    "b1": (lambda x: 0 <= x < 1, "must be in [0, 1)"),
    "b2": (lambda x: 0 <= x < 1, "must be in [0, 1)"),
    "eps": (lambda x: x >= 0, "must not be negative"),
    "weight_decay": (lambda x: x >= 0, "must not be negative; 0 turns it off"),
    "warmup_steps": (lambda x: x >= 0, "must not be negative; 0 turns it off"),
    "decay_rate": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "decay_steps": (lambda x: x > 0, "must be above 0"),
    "decay_start": (lambda x: x >= 0, "must not be negative"),
    "final_fraction": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "plateau_factor": (lambda x: 0 < x < 1, "must be in (0, 1)"),
    "plateau_patience": (lambda x: x >= 0, "must not be negative"),
    "plateau_min": (lambda x: x >= 0, "must not be negative"),
    "clip_norm": (lambda x: x >= 0, "must not be negative; 0 turns it off"),
    "clip_value": (lambda x: x >= 0, "must not be negative; 0 turns it off"),
}


def read(fields: dict[str, Any], where: str) -> Settings:
    """Checks the fields; `where` is what messages call their parent."""
    known = [field.name for field in dataclasses.fields(Settings) if field.name != "multiplier"]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"{where}.{name}={fields[name]!r}: no such field; {hint}")
    settings = Settings(**fields)
    for name, choices in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
        if getattr(settings, name) not in choices:
            value = getattr(settings, name)
            raise UserError(f"{where}.{name}={value!r}: choose one of {', '.join(choices)}")
    for name, (holds, rule) in RANGES.items():
        value = getattr(settings, name)
        if name in SCHEDULED and isinstance(value, Mapping):
            schedules.make(value, f"{where}.{name}")
            continue
        if value is None and settings.__dataclass_fields__[name].default is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not holds(value):
            raise UserError(f"{where}.{name}={value!r}: {rule}")
    for name, names in SCHEDULE_FIELDS.items():
        value = getattr(settings, name)
        if value is not None and settings.schedule not in names:
            raise UserError(
                f"{where}.{name}={value!r}: only schedule={names[0]!r} uses it, not "
                f"{settings.schedule!r}; leave it None"
            )
    if isinstance(settings.learning_rate, Mapping) and (
        settings.schedule != "constant" or settings.warmup_steps
    ):
        raise UserError(
            f"{where}.learning_rate is a schedule; leave schedule={settings.schedule!r} and "
            f"warmup_steps={settings.warmup_steps} at their defaults"
        )
    if settings.schedule == "exponential" and settings.decay_steps is None:
        raise UserError(f"{where}.decay_steps=None: schedule='exponential' needs it")
    if settings.name == "rmsprop" and settings.b1 is not None:
        raise UserError(f"{where}.b1={settings.b1!r}: rmsprop has no momentum; leave it None")
    return settings


def read_group(settings: Settings, pair: Any) -> tuple[str, Settings | None]:
    """The pattern of a group and its settings, None where its parameters are frozen."""
    try:
        pattern, change = pair
        re.compile(pattern)
    except (TypeError, ValueError, re.error) as error:
        raise UserError(
            f"optimizer.groups: {pair!r} is not a pair (regular expression, settings): {error}"
        ) from error
    where = f"optimizer.groups[{pattern!r}]"
    if isinstance(change, Mapping):
        for name in GLOBAL_FIELDS:
            if name in change:
                raise UserError(f"{where}.{name}: is one for all parameters; set optimizer.{name}")
        inherited = {"name": settings.name}
        if "learning_rate" not in change and "schedule" not in change:
            names = ("learning_rate", "schedule", "warmup_steps", *SCHEDULE_FIELDS)
            inherited |= {name: getattr(settings, name) for name in names}
        elif "learning_rate" not in change:
            inherited["learning_rate"] = settings.learning_rate
        return pattern, read({**inherited, **change, "groups": ()}, where)
    number = isinstance(change, int | float) and not isinstance(change, bool)
    if not number or change < 0:
        raise UserError(f"{where}={change!r}: give a multiplier of the learning rate or a mapping")
    if change == 0:
        return pattern, None
    return pattern, dataclasses.replace(settings, multiplier=change)
