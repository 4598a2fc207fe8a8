"""Optimizers, learning-rate schedules and the moving average of the weights.

Everything is set by the flat `config.optimizer`, whose fields are those of
`optimizer.settings.Settings`. The semantics are PyTorch's, in which most reference systems were
trained: `weight_decay` of Adam and RMSprop is an L2 term added to the gradient, that of AdamW is
decoupled; RMSprop adds `eps` outside the square root and starts its average at zero; clipping
divides by the norm plus 1e-6.

A schedule is a function of t, the number of updates made before: the first update has t = 0, so
with warm-up its rate is 0, as in the released Slot Attention.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from akorn_jax.optimizer import schedules
from akorn_jax.optimizer.settings import Settings, read, read_group
from akorn_jax.runtime.tree_paths import by_name, path_name

Array = jax.Array
PyTree = Any
Schedule = Callable[[Any], Any]


def make(
    config: Mapping[str, Any], num_steps: int
) -> tuple[optax.GradientTransformationExtraArgs, Schedule]:
    """The optimizer and its learning-rate schedule.

    Args:
        config: `config.optimizer`, the fields of `Settings`.
        num_steps: length of the training, where a cosine schedule ends.

    Returns:
        The optax tx and `schedule(t)`, the learning rate of the update that has t
        updates before it (a function of ints and of traced arrays). Parameters in a group have
        their own; a plateau's reductions are in the optimizer's state (`plateau_scale`).

    Raises:
        UserError: a field or value that is not known.
    """
    config = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    settings = read(config, "optimizer")
    schedule = _schedule(settings, num_steps)
    groups = [read_group(settings, pair) for pair in settings.groups]
    if not groups:
        return optax.chain(*_clipping(settings), _update_rule(settings, schedule)), schedule

    patterns = [re.compile(pattern) for pattern, _ in groups]
    rules = {"rest": _update_rule(settings, schedule)}
    frozen = set()
    for label, (_, group) in enumerate(groups):
        if group is None:
            frozen.add(str(label))
            rules[str(label)] = optax.set_to_zero()
        else:
            rules[str(label)] = _update_rule(group, _schedule(group, num_steps))

    def labels(params: PyTree) -> PyTree:
        return _labels(params, patterns)

    def freeze(params: PyTree) -> PyTree:
        return jax.tree.map(lambda label: label in frozen, labels(params))

    unfrozen = optax.masked(optax.set_to_zero(), freeze)
    return (
        optax.chain(unfrozen, *_clipping(settings), optax.partition(rules, labels)),
        schedule,
    )


# --- moving average of the weights


def ema_decay(step: Any, decay: float, every: int, start: int) -> Any:
    """The factor d of `ema <- d ema + (1 - d) w`, as scheduled by the official AKOrN training.

    Only steps that are multiples of `every` do anything. Up to `start` they copy the weights;
    afterwards, with e = step - start, d = clip(1 - (1 + e)^(-2/3), 0, decay), so that a young
    average forgets quickly.

    Args:
        step: number of updates of the average before this one: 0, 1, ...; an int, an array, or a
            traced array inside `jax.jit`.
        decay: largest factor, in [0, 1].
        every: steps from one update to the next, at least 1.
        start: last step that copies.

    Returns:
        d in [0, 1], in the shape of `step`; 0 copies the weights, 1 leaves the average alone.
        float32 for JAX arrays, float64 otherwise.
    """
    xp = _namespace(step)
    step = xp.asarray(step)
    age = xp.maximum(step - start, 0)  # 0 up to start, hence d = 0
    d = xp.clip(1 - (1.0 + age) ** (-2 / 3), 0.0, decay)
    return xp.where(step % every == 0, d, 1.0)


def ema_update(
    ema: PyTree, new: PyTree, step: Any, *, decay: float, every: int, start: int
) -> PyTree:
    """The moving average after `step` earlier updates of it: see `ema_decay`.

    Floating-point leaves are averaged, all others (counters, random keys) are those of `new`.
    """
    d = ema_decay(step, decay, every, start)

    def average(old: Array, leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        mixed = (d * old + (1 - d) * leaf).astype(old.dtype)
        # 0 * inf is NaN: a step that leaves the average alone must not look at the weights. What
        # does not change (frozen weights) is not rounded away.
        return jnp.where((d == 1) | (old == leaf), old, mixed)

    return jax.tree.map(average, ema, new)


# --- reducing the rate when the validation loss stalls


class PlateauState(NamedTuple):
    """What `schedule="plateau"` remembers; part of the optimizer's state, hence checkpointed."""

    scale: Array  # [], multiplies the learning rate
    best: Array  # [], lowest reported value
    waited: Array  # [], reported values since
    factor: Array  # [], the settings, so that `observe` needs nothing else
    patience: Array  # []
    min_scale: Array  # []


def observe(opt_state: PyTree, value: Array) -> PyTree:
    """Tells the plateau schedules in an optimizer's state a new validation loss.

    As PyTorch's ReduceLROnPlateau: an improvement is a value under `best * (1 - 1e-4)`. States
    without a plateau schedule come back unchanged.
    """

    def update(state: Any) -> Any:
        if not isinstance(state, PlateauState):
            return state
        better = value < state.best * (1 - 1e-4)
        waited = jnp.where(better, 0, state.waited + 1)
        reduce = waited > state.patience
        lower = jnp.maximum(state.scale * state.factor, state.min_scale)
        return state._replace(
            scale=jnp.where(reduce, lower, state.scale),
            best=jnp.where(better, value, state.best).astype(state.best.dtype),
            waited=jnp.where(reduce, 0, waited),
        )

    return jax.tree.map(update, opt_state, is_leaf=lambda x: isinstance(x, PlateauState))


def plateau_scale(opt_state: PyTree) -> Array:
    """`[]`, what the plateau schedule multiplies the learning rate by; 1 without one."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, PlateauState))
    scales = [leaf.scale for leaf in leaves if isinstance(leaf, PlateauState)]
    return scales[0] if scales else jnp.ones(())


def _scale_by_plateau(settings: Settings) -> optax.GradientTransformation:
    def init(params: PyTree) -> PlateauState:
        del params
        return PlateauState(
            scale=jnp.ones(()),
            best=jnp.full((), jnp.inf),
            waited=jnp.zeros((), jnp.int32),
            factor=jnp.asarray(_default(settings.plateau_factor, 0.1), jnp.float32),
            patience=jnp.asarray(_default(settings.plateau_patience, 3), jnp.int32),
            min_scale=jnp.asarray(
                _default(settings.plateau_min, 0.0) / settings.learning_rate, jnp.float32
            ),
        )

    def update(updates: PyTree, state: PlateauState, params: PyTree = None):
        del params
        return jax.tree.map(lambda u: state.scale.astype(u.dtype) * u, updates), state

    return optax.GradientTransformation(init, update)


# --- parts of `make`


def _schedule(settings: Settings, num_steps: int) -> Schedule:
    if isinstance(settings.learning_rate, Mapping):
        rates = schedules.make(settings.learning_rate, "optimizer.learning_rate")
        return lambda t: settings.multiplier * rates(t)
    base, warmup = settings.multiplier * settings.learning_rate, settings.warmup_steps
    rate, start = _default(settings.decay_rate, 0.5), _default(settings.decay_start, 0)
    final = _default(settings.final_fraction, 0.0)

    def schedule(t: Any) -> Any:
        xp = _namespace(t)
        t = xp.asarray(t, jnp.float32 if xp is jnp else np.float64)
        scale = xp.minimum(1.0, t / warmup) if warmup else xp.ones_like(t)
        if settings.schedule == "exponential":
            scale = scale * rate ** (xp.maximum(t - start, 0) / settings.decay_steps)
        if settings.schedule == "cosine":
            progress = xp.clip((t - warmup) / max(1, num_steps - warmup), 0.0, 1.0)
            scale = scale * (final + (1 - final) * 0.5 * (1 + xp.cos(np.pi * progress)))
        return base * scale

    return schedule


def _update_rule(settings: Settings, schedule: Schedule) -> optax.GradientTransformation:
    decay = optax.add_decayed_weights(settings.weight_decay)
    if settings.name == "rmsprop":
        b2 = _default(settings.b2, 0.99)
        scale = optax.scale_by_rms(b2, settings.eps, initial_scale=0.0, eps_in_sqrt=False)
    else:
        b1, b2 = _default(settings.b1, 0.9), _default(settings.b2, 0.999)
        if isinstance(b1, Mapping):
            adam = optax.inject_hyperparams(optax.scale_by_adam, static_args=("b2", "eps"))
            scale = adam(b1=schedules.make(b1, "optimizer.b1"), b2=b2, eps=settings.eps)
        else:
            scale = optax.scale_by_adam(b1, b2, settings.eps)
    parts = [scale]
    if settings.weight_decay:
        parts = [scale, decay] if settings.name == "adamw" else [decay, scale]
    if settings.schedule == "plateau":
        parts.append(_scale_by_plateau(settings))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def _clipping(settings: Settings) -> list[optax.GradientTransformation]:
    parts = []
    if settings.clip_norm:
        parts.append(_clip(settings.clip_norm, optax.tree.norm))
    if settings.clip_value:
        parts.append(_clip(settings.clip_value, lambda g: optax.tree.norm(g, ord=np.inf)))
    return parts


def _clip(limit: float, norm: Callable[[PyTree], Array]) -> optax.GradientTransformation:
    def update(updates: PyTree, params: PyTree = None) -> PyTree:
        del params
        scale = jnp.minimum(1.0, limit / (norm(updates) + 1e-6))
        return jax.tree.map(lambda u: (scale * u).astype(u.dtype), updates)

    return optax.stateless(update)


def _labels(params: PyTree, patterns: Sequence[re.Pattern]) -> PyTree:
    used = set()

    def label(path: Sequence[Any], _: Array) -> str:
        for index, pattern in enumerate(patterns):
            if pattern.fullmatch(path_name(path)):
                used.add(index)
                return str(index)
        return "rest"

    labels = jax.tree_util.tree_map_with_path(label, params)
    for index, pattern in enumerate(patterns):
        if index not in used:
            raise UserError(
                f"optimizer.groups: {pattern.pattern!r} is the first match of no parameter; "
                f"names are like {next(iter(by_name(params)))!r}"
            )
    return labels


# --- small helpers


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _namespace(value: Any) -> Any:
    return jnp if isinstance(value, jax.Array) else np
