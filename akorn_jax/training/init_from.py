"""Starts a fresh run from other weights: those of a run, or a file of official ones."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import logging
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import convert
from akorn_jax.convert import files
from akorn_jax.errors import UserError
from akorn_jax.runtime.tree_paths import by_name
from akorn_jax.training.checkpoint import Checkpoints

AVERAGES = ("ema.0.", "ema.1.")  # of parameters and buffers: what is evaluated is what is taken


def fill(model: nnx.Module, config: ConfigDict) -> None:
    """Fills a fresh model as `config.init_from` says, in place; does nothing where it is unset.

    `path` is a run's directory (also one that `python -m akorn_jax.convert` wrote) or a file of
    official weights (.pth, .ckpt, .safetensors, .npz). What lies below `source` in it fills what
    lies below `target` in the model, e.g. source "" and target "encoder"; of that only paths that
    the regular expression `scope` matches whole. All others keep their initial numbers.

    Raises:
        UserError: no such run or file, nothing that matches, or arrays that are missing or
            misshapen, all of them listed.
    """
    settings = config.init_from
    if not settings.path:
        return
    path = epath.Path(settings.path).expanduser()
    if path.suffix in files.KINDS:
        _, averaged = files.read(Path(path), "config.init_from.path")
        module = _submodule(model, settings.target)
        try:
            convert.load_official(module, averaged)
        except UserError as error:
            raise UserError(f"config.init_from.path={path}: {error}") from error
        logging.info("Started %s from %s.", settings.target or "the model", path)
        return
    state = nnx.state(model)
    ours = by_name(state)
    with Checkpoints(path / "checkpoints", alone=True) as checkpoints:
        saved = _averages(checkpoints, settings.path)
        pairs = _pairs(ours, saved, config.init_from)
        found = checkpoints.restore_latest(
            {saved[source][0]: saved[source][1] for source in pairs.values()}, partial=True
        ).state
    leaves = [
        jnp.asarray(found[saved[pairs[name]][0]], leaf.dtype) if name in pairs else leaf
        for name, leaf in ours.items()
    ]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(state), leaves))
    logging.info("Started %d of %d arrays from %s.", len(pairs), len(ours), path)


def _averages(checkpoints: Checkpoints, path: str) -> dict[str, tuple[str, jax.ShapeDtypeStruct]]:
    """Of each array of the run's model: its name in the checkpoint, and its shape."""
    shapes = checkpoints.shapes()
    if shapes is None:
        raise UserError(f"config.init_from.path={path}: has no checkpoint; give a trained run.")
    return {
        name.removeprefix(prefix).replace(".", "/"): (name, shape)
        for name, shape in shapes.items()
        for prefix in AVERAGES
        if name.startswith(prefix)
    }


def _pairs(ours: dict, saved: dict, settings: ConfigDict) -> dict[str, str]:
    """Name in our model -> name in the source's, for all that is to be filled."""
    where = f"config.init_from.path={settings.path}"
    try:
        scope = re.compile(settings.scope)
    except re.error as error:
        raise UserError(
            f"config.init_from.scope={settings.scope!r}: is no regular expression ({error})."
        ) from error
    target = f"{settings.target}/" if settings.target else ""
    source = f"{settings.source}/" if settings.source else ""
    chosen = [name for name in ours if name.startswith(target) and scope.fullmatch(name)]
    pairs = {name: source + name.removeprefix(target) for name in chosen}
    problems = [f"missing {theirs}" for theirs in pairs.values() if theirs not in saved]
    problems += [
        f"misshapen {theirs} {saved[theirs][1].shape}, expected {ours[name].shape}"
        for name, theirs in pairs.items()
        if theirs in saved and saved[theirs][1].shape != ours[name].shape
    ]
    if not pairs or (
        len(problems) == len(pairs) and all(p.startswith("missing") for p in problems)
    ):
        raise UserError(
            f"{where}: nothing in it matches source={settings.source!r}, "
            f"target={settings.target!r}, scope={settings.scope!r}; it has "
            f"{', '.join(list(saved)[:3])}, ..., the model {', '.join(list(ours)[:3])}, ..."
        )
    if problems:
        raise UserError(f"{where}: does not fit the model: {'; '.join(problems)}.")
    return pairs


def _submodule(model: nnx.Module, target: str) -> nnx.Module:
    try:
        return functools.reduce(getattr, target.split("/") if target else (), model)
    except AttributeError as error:
        raise UserError(f"config.init_from.target={target!r}: {error}.") from error
