"""Converts official weights to a run that can be evaluated, and back.

    python -m akorn_jax.convert --weights=ema_49.pth --config=configs/clevr_akorn.py --workdir=DIR
    python launch.py --mode=evaluate --workdir=DIR

    python -m akorn_jax.convert --to=torch --weights=OUT.pth --workdir=DIR

Files are .pth or .ckpt (read and written by PyTorch, never unpickled), .safetensors or .npz, either
a plain state dict, also under Lightning's prefix, or that of an `ema_pytorch` module, whose average
is what is evaluated.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx

from akorn_jax import optimizer, run_config
from akorn_jax.convert import files, load_official, to_official
from akorn_jax.errors import UserError
from akorn_jax.runtime import progress, storage
from akorn_jax.runtime.lock import DirectoryLock
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints

MAX_STEP = 2**31 - 1  # steps are int32


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m akorn_jax.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--weights", metavar="FILE", required=True, type=Path)
    parser.add_argument("--workdir", metavar="DIR", required=True)
    parser.add_argument("--config", metavar="FILE[:VARIANT]", help="what model the weights are of")
    parser.add_argument("--to", choices=("jax", "torch"), default="jax")
    parser.add_argument("--step", type=int, default=0, help="updates that the weights have seen")
    options, overrides = parser.parse_known_args(arguments)
    for argument in overrides:
        if not (argument.startswith("--config.") and "=" in argument):
            raise UserError(f"{argument}: no such option; see --help.")
    if not 0 <= options.step <= MAX_STEP:
        raise UserError(f"--step={options.step}: give a number from 0 to {MAX_STEP}.")
    jax.config.update("jax_enable_x64", False)  # weights stay float32
    workdir = epath.Path(storage.clean(options.workdir))
    weights = options.weights.expanduser()
    if options.to == "torch":
        to_torch(workdir, weights)
        return
    if options.config is None:
        raise UserError("--config is missing: it says what model the weights are of.")
    config = run_config.override(run_config.from_recipe(options.config), overrides)
    run_config.make_directory(workdir)
    with DirectoryLock(workdir):
        from_torch(config, weights, workdir, options.step)


def from_torch(
    config: run_config.ConfigDict, weights: Path, workdir: epath.Path, step: int
) -> None:
    """Writes a run's config and a checkpoint with official weights.

    Raises:
        UserError: if the weights do not fit the model, or the directory holds another run.
    """
    run_config.check_same(config, workdir)
    model = train_state.build_model(config.model, config.seed)
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    online, averaged = files.read(weights)
    load_official(model, averaged)
    ema = jax.tree.map(jnp.copy, train_state.split(model)[1:])
    load_official(model, online)
    state = train_state.create(model, tx)
    state = dataclasses.replace(state, step=jnp.asarray(step, jnp.int32), ema=ema)
    run_config.save(config, workdir)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(step, state)
    progress.say(f"{weights}: {len(averaged)} arrays, now step {step} of {workdir}.")


def to_torch(workdir: epath.Path, weights: Path) -> None:
    """Writes the weights of a run's newest intact checkpoint, and their average, to a file.

    Raises:
        UserError: if there is no checkpoint.
    """
    config = run_config.from_workdir(workdir)
    model = train_state.build_model(config.model, config.seed)
    graphdef, params, buffers = train_state.split(model)
    like = {"params": params, "buffers": buffers, "ema": (params, buffers)}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore_latest(like, partial=True)
    if restored is None:
        raise UserError(f"--workdir={workdir}: has no checkpoint; train first.")
    state = restored.state
    online = to_official(nnx.merge(graphdef, state["params"], state["buffers"]))
    averaged = to_official(nnx.merge(graphdef, *state["ema"]))
    files.write(weights, online, averaged, restored.step)
    progress.say(
        f"{weights}: step {restored.step} of {workdir}, {len(averaged)} arrays and averages."
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
