"""A run's settings: from a recipe, the command line and the run's own directory."""

import ast
import copy
import difflib
import functools
import importlib.util
import inspect
import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import flags
from etils import epath
from ml_collections import config_flags

from akorn_jax.errors import UserError
from akorn_jax.runtime import storage
from akorn_jax.training import checksums

ConfigDict = ml_collections.ConfigDict

FILE = "config.json"
# Fields that must match to resume; the rest may change.
IDENTITY = ("seed", "batch_size", "dtype", "data", "model", "task", "optimizer", "ema")
# Fields of saved configs that are gone, since the model knows what they said.
GONE = ("task.geco.minimum",)
OPTIONS = "eval.options"  # of the model's call: free names
SCHEDULES = ("task.weights", "task.options")  # each a number, a schedule or a word
# Where data lie, and how they are read, says nothing of what they are.
PLACES = ("raw_dir", "loading", "num_workers")
PATHS = ("data_dir", "data.raw_dir", "init_from.path")
PARTS = ("train", "validation", "test")


def _one_of(*values: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda x: x in values), f"choose one of {', '.join(values)}"


def _at_least(least: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda x: x >= least), f"give {least} or more"


# field -> (what holds, in words)
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{name: _at_least(0) for name in ("seed", "data.seed", "eval.seed", "skip_nonfinite")},
    **{name: _at_least(0) for name in ("eval.num_workers", "data.num_workers", "max_hours")},
    **{name: _at_least(0) for name in ("eval.min_objects", "eval.max_objects", "profile_at")},
    **{name: _at_least(1) for name in ("batch_size", "eval.batch_size", "eval_scenes")},
    **{name: _at_least(1) for name in ("num_steps", "keep_checkpoints", "eval.pca")},
    **{name: _at_least(1) for name in ("data.size", "data.num_clusters", "data.max_records")},
    **{name: _one_of(*PARTS) for name in ("eval.split", "eval_split")},
    "dtype": _one_of("float32", "bfloat16"),
    "data.loading": _one_of("resident", "stream"),
    "data.interpolation": _one_of("nearest", "bilinear"),
    "data.count": _one_of("visible", "listed", "none"),
    "ema.decay": ((lambda x: 0 <= x <= 1), "give a number in [0, 1]"),
    "ema.every": _at_least(1),
    "ema.start": _at_least(0),
}
# Fields of models where 0 means nothing.
AT_LEAST_ONE = (
    *("channels", "heads", "patch_size", "image_size", "num_layers", "num_slots", "slot_size"),
    *("hidden_size", "kernel_size", "oscillator_dim", "feature_size", "glimpse_size", "mlp_size"),
    *("what_size", "global_size", "num_draws", "pass_size", "grid_size", "groups", "mask_size"),
    *("component_size", "num_components", "component_channels", "latent_size", "features"),
    *("num_groups", "num_levels", "gradient_batch"),
)
# Ends of the names of fields of models that are divided by, or by which all weights would be 0.
POSITIVE = ("std", "gain")
SMALLEST = 1e-6  # whose inverse has a square that is far from float32's end


def from_recipe(recipe: str) -> ConfigDict:
    """The config of `FILE[:variant]`, whose `get_config(variant)` makes it.

    Raises:
        UserError: if there is no such file or variant.
    """
    path, _, variant = recipe.partition(":")
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        near = difflib.get_close_matches(os.path.basename(path), files, 3, cutoff=0.3)
        hint = f"; {folder} has {', '.join(near)}" if near else ""
        raise UserError(f"--config={path}: no such file{hint}.")
    spec = importlib.util.spec_from_file_location("recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config={path}: is not a recipe; a recipe has get_config(variant).")
    if inspect.signature(module.get_config).parameters:
        return module.get_config(variant)
    if variant:
        raise UserError(f"--config={recipe}: this recipe has no variants; leave out :{variant}.")
    return module.get_config()


def from_workdir(workdir: epath.Path) -> ConfigDict:
    """The config that a run was made with.

    Raises:
        UserError: if the directory holds none.
    """
    path = workdir / FILE
    if not path.exists():
        raise UserError(f"--workdir={workdir}: has no {FILE}; pass --config as well.")
    return from_json(path)


def from_json(path: epath.Path) -> ConfigDict:
    """The config of a file that `save` wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        if not checksums.is_regular(path):
            raise ValueError("no regular file")
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not content:
            raise ValueError(f"it holds {type(content).__name__}, not the fields of a config")
        if not all(isinstance(content.get(name), dict) for name in ("data", "model", "task")):
            raise ValueError("it has no data, model or task")
        return _without(ConfigDict(content), GONE)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}); pass --config as well.") from error


def _without(config: ConfigDict, names: Sequence[str]) -> ConfigDict:
    for name in names:
        parent, _, leaf = name.rpartition(".")
        where = _value(config, parent)
        if isinstance(where, ConfigDict) and leaf in where:
            del where[leaf]
    return config


def override(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """The config with `--config.field=value` arguments applied, each of the field's own type.

    Raises:
        UserError: if a field does not exist or a value does not fit.
    """
    config = copy.deepcopy(config)  # keeps the types of fields that are None
    arguments = [_renamed(argument) for argument in arguments]
    done = []
    for argument in arguments:
        name, _, value = argument.removeprefix("--config.").partition("=")
        if name.startswith(f"{OPTIONS}."):
            with config.eval.options.unlocked():
                config.eval.options[name.removeprefix(f"{OPTIONS}.")] = _literal(value)
            done.append(argument)
            continue
        _check_field(config, name)
        parent, _, leaf = name.rpartition(".")
        if value.lower() == "none":
            _unset(config, name)
        elif parent in SCHEDULES:
            with config.ignore_type():
                _value(config, parent)[leaf] = _literal(value)
        else:
            continue
        done.append(argument)
    arguments = [argument for argument in arguments if argument not in done]
    values, line = flags.FlagValues(), ["launch.py", *arguments]
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=line
        )
        values(line)
    except (flags.Error, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).removeprefix("flag ")
        named = any(reason.startswith(argument) for argument in arguments)
        raise UserError(reason if named else f"{' '.join(arguments)}: {reason}") from error
    return checked(holder.value)


def _unset(config: ConfigDict, name: str) -> None:
    """Sets an optional field to None."""
    parent, _, leaf = name.rpartition(".")
    where = functools.reduce(getattr, parent.split(".") if parent else (), config)
    fields = dict(where.items(preserve_field_references=True))
    if not isinstance(fields[leaf], ml_collections.FieldReference):
        raise UserError(f"config.{name}=none: this field needs a value, e.g. {where[leaf]!r}.")
    where[leaf] = None


def checked(config: ConfigDict) -> ConfigDict:
    """The config with its paths as all parts of the program see them.

    Raises:
        UserError: a value is out of its range; the line has the field, the value and the range.
    """
    for name, (holds, rule) in RANGES.items():
        value = _value(config, name)
        if value is not None and not holds(value):
            raise UserError(f"config.{name}={value!r}: {rule}.")
    for name, value in config.model.items():
        many = isinstance(value, tuple | list)  # widths, strides
        least = int(many or name in AT_LEAST_ONE)
        for number in value if many else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"config.model.{name}={value}: give a finite number.")
            if type(number) is int and number < least:
                raise UserError(f"config.model.{name}={value}: give {least} or more.")
            if name.endswith(POSITIVE) and isinstance(number, int | float) and number < SMALLEST:
                raise UserError(
                    f"config.model.{name}={value}: give a positive number, {SMALLEST} or more."
                )
    for name in PATHS:
        value = _value(config, name)
        if value:
            parent, _, leaf = name.rpartition(".")
            where = config[parent] if parent else config
            where[leaf] = storage.clean(value)
    return config


def _value(config: ConfigDict, name: str) -> Any:
    """A field by its path; None where there is none."""
    for part in name.split("."):
        if not isinstance(config, ConfigDict) or part not in config:
            return None  # of a kind of run that has no such field
        config = config[part]
    return config


def _renamed(argument: str) -> str:
    """`--config.eval.num_slots` and `num_iterations` are options of the model's call."""
    for name in ("num_slots", "num_iterations"):
        argument = argument.replace(f"--config.eval.{name}=", f"--config.{OPTIONS}.{name}=")
    return argument


def _literal(text: str) -> Any:
    """A number, bool or tuple as Python writes it, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_field(config: ConfigDict, name: str) -> None:
    where = config
    parts = name.split(".")
    for depth, part in enumerate(parts):
        known = list(where.keys()) if isinstance(where, ConfigDict) else []
        if part not in known:
            near = difflib.get_close_matches(part, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
            raise UserError(f"config.{'.'.join(parts[: depth + 1])}: no such field; {hint}")
        where = where[part]


def input_size(config: ConfigDict) -> tuple[int, int]:
    """Height and width of the images that a run's model was made for.

    Raises:
        UserError: neither the model nor the protocol says.
    """
    encoder = config.model.get("encoder")
    size = config.model.get("image_size")
    if size is None and isinstance(encoder, ConfigDict):
        size = encoder.get("image_size")
    size = config.data.size if size is None else size
    if size is None and config.data.crop is not None:
        top, left, bottom, right = config.data.crop
        size = (bottom - top, right - left)
    if size is None:
        raise UserError("config.data.size=None: set it to the side of the model's images.")
    return (size, size) if isinstance(size, int) else tuple(size)


def make_directory(workdir: epath.Path, option: str = "--workdir") -> None:
    """Makes a run's directory, or another that an option names.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{option}={workdir}: cannot be made ({error.strerror}); choose another directory."
        ) from error


def save(config: ConfigDict, workdir: epath.Path) -> None:
    """Writes `config.json`, whole or not at all.

    Raises:
        UserError: if the directory cannot be written.
    """
    make_directory(workdir)
    try:
        text = json.dumps(to_dict(config), indent=2, sort_keys=True) + "\n"
        storage.write(workdir / FILE, text.encode())
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot be written ({error.strerror}); choose another directory."
        ) from error


def check_same(config: ConfigDict, workdir: epath.Path) -> None:
    """Refuses a directory that holds a run with another identity.

    Raises:
        UserError: naming a field that differs, and both values.
    """
    if not (workdir / FILE).exists() or not _has_steps(workdir / "checkpoints"):
        return  # a directory belongs to a run once that has saved a step
    ours, theirs = to_dict(config), to_dict(from_workdir(workdir))
    names = IDENTITY
    if config.optimizer.schedule == "cosine":
        names = (*names, "num_steps")  # where the schedule ends
    for name in names:
        for field, ours_value, theirs_value in _differences(name, ours[name], theirs.get(name)):
            raise UserError(
                f"--workdir={workdir}: belongs to a run with config.{field}={theirs_value!r}, not "
                f"{ours_value!r}; choose another directory or the same config."
            )


def _has_steps(checkpoints: epath.Path) -> bool:
    return checkpoints.exists() and any(path.name.isdecimal() for path in checkpoints.iterdir())


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it: lists for tuples."""
    return json.loads(json.dumps(config.to_dict()))


def _differences(name: str, ours: Any, theirs: Any):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            later = key not in theirs  # a field that came to be after the run was made
            if key not in PLACES and not later:
                yield from _differences(f"{name}.{key}", ours.get(key), theirs.get(key))
    elif ours != theirs and not (ours in (None, {}) and theirs in (None, {})):
        yield name, ours, theirs
