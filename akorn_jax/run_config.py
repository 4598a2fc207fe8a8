"""A run's settings: from a recipe, the command line and the run's own directory."""

import ast
import difflib
import importlib.util
import json
import os
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from etils import epath
from ml_collections import config_flags

from akorn_jax.errors import UserError
from akorn_jax.runtime import storage

ConfigDict = ml_collections.ConfigDict

FILE = "config.json"
# What a run is: a checkpoint goes on only under the same values. The rest may change.
IDENTITY = ("seed", "batch_size", "dtype", "data", "model", "task", "optimizer", "ema")
OPTIONS = "eval.options"  # of the model's call: free names
# Where data lie, and how they are read, says nothing of what they are.
PLACES = ("raw_dir", "loading", "num_workers")


def from_recipe(recipe: str) -> ConfigDict:
    """The config of `FILE[:variant]`, whose `get_config(variant)` makes it.

    Raises:
        UserError: if there is no such file or variant.
    """
    path, _, variant = recipe.partition(":")
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
    return module.get_config(variant)


def from_workdir(workdir: epath.Path) -> ConfigDict:
    """The config that a run was made with.

    Raises:
        UserError: if the directory holds none.
    """
    path = workdir / FILE
    if not path.exists():
        raise UserError(f"--workdir={workdir}: has no {FILE}; pass --config as well.")
    try:
        return ConfigDict(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); pass --config as well.") from error


def override(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """The config with `--config.field=value` arguments applied, each of the field's own type.

    Raises:
        UserError: if a field does not exist or a value does not fit.
    """
    config = config.copy_and_resolve_references()
    arguments = [_renamed(argument) for argument in arguments]
    for argument in arguments:
        name, _, value = argument.removeprefix("--config.").partition("=")
        if name.startswith(f"{OPTIONS}."):
            with config.eval.options.unlocked():
                config.eval.options[name.removeprefix(f"{OPTIONS}.")] = _literal(value)
        else:
            _check_field(config, name)
    arguments = [a for a in arguments if not a.startswith(f"--config.{OPTIONS}.")]
    values, line = flags.FlagValues(), ["launch.py", *arguments]
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=line
        )
        values(line)
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"{' '.join(arguments)}: {' '.join(str(error).split())}") from error
    return holder.value


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


def make_directory(workdir: epath.Path) -> None:
    """Makes a run's directory.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot be made ({error.strerror}); choose another directory."
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
    if not (workdir / FILE).exists():
        return
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


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it: lists for tuples."""
    return json.loads(json.dumps(config.to_dict()))


def _differences(name: str, ours: Any, theirs: Any):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            if key not in PLACES:
                yield from _differences(f"{name}.{key}", ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield name, ours, theirs
