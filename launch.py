"""Prepares data, trains, evaluates: `python launch.py --config=configs/X.py --workdir=DIR`.

--mode=prepare only prepares, --mode=browse writes a picture of some prepared scenes.
Without --mode a run prepares its data if need be, trains (from where it was, if it was
interrupted), evaluates and writes DIR/report.html. Any field of the config can be set with
--config.field=value. --mode=report writes the report again, --compare=DIR2,DIR3 beside other runs;
--mode=sample draws images from the model's prior; --mode=segment --images='DIR/*.jpg' --out=DIR
segments any pictures.

Of several processes each runs this command. On TPU slices and under srun they find each other;
elsewhere say --coordinator=HOST:PORT --num_processes=N --process_id=I.

Exit codes: 0 done, or preempted by SIGTERM and saved; 2 the input is wrong or the training
diverged (one line says what); 75 another of several processes died, run again (docs/pods.md);
124 the time limit (config.max_hours) was reached and all was saved.
"""

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

import jax
from absl import logging
from etils import epath

from akorn_jax import evaluate, features, report, run_config, sample, train
from akorn_jax.data import records
from akorn_jax.errors import UserError
from akorn_jax.runtime import extras, memory, processes, progress, provenance, storage
from akorn_jax.runtime.lock import DirectoryLock
from akorn_jax.runtime.preemption import Outcome
from configs import base, protocols
from datasets.contact_sheet import contact_sheet
from datasets.errors import DatasetError
from datasets.folder import key_of
from datasets.prepare import prepare

MODES = ("prepare", "browse", "train", "evaluate", "report", "sample", "segment")
REPORTING = (None, "evaluate", "report")


def main(arguments: list[str]) -> int:
    """Runs a command line; what the user did wrong is one line on standard error.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):  # "±" must not cost a result on an ASCII terminal
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return run(arguments)
    except (UserError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"error: {extras.explain(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; rerun the same command to resume.", file=sys.stderr)
        return 130


def run(arguments: list[str]) -> int:
    """Prepares, trains, evaluates, as the options say; returns the exit code."""
    options, config = parse(arguments)
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(options.cache_dir))
    # Also what compiles in less than JAX's second: making a model compiles twenty such programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_enable_x64", False)  # config.dtype says what is computed in
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # see `keep_freed_memory`
    processes.initialize(options.coordinator, options.num_processes, options.process_id)
    check_devices()
    memory.keep_freed_memory()
    workdir = epath.Path(storage.clean(options.workdir))
    others = [protocols.protocol_of(name) for name in config.eval.datasets.split(",") if name]
    if options.mode in (None, "train"):
        run_config.check_same(config, workdir)
    written = workdir
    if options.mode == "segment":  # the run may be another's
        from akorn_jax import segment  # needs an extra

        if options.images is None or options.out is None:
            raise UserError("--mode=segment: pass --images='DIR/*.jpg' and --out=DIR.")
        segment.find(options.images)  # nothing is made where there is none
        written = epath.Path(options.out)
    if options.mode != "prepare":
        run_config.make_directory(written, "--out" if written is not workdir else "--workdir")
    with writing(written, options.mode):
        if options.mode != "prepare":
            progress.setup_logging(written, jax.process_index())
        return work(options, config, workdir, others, arguments)


def work(
    options: argparse.Namespace,
    config: run_config.ConfigDict,
    workdir: epath.Path,
    others: list[run_config.ConfigDict],
    arguments: list[str],
) -> int:
    """What the mode asks for, in its order; returns the exit code."""
    if options.mode == "segment":
        from akorn_jax import segment

        out = segment.segment(
            config, workdir, options.images, options.out, skip_bad=options.skip_bad
        )
        progress.say(f"Segments: {out}")
        return 0
    for protocol in (config.data, *others):
        prepare_data(protocol, config, skip_bad=options.skip_bad)
    if options.mode in (None, "prepare", "train"):
        records.check_parts(config.data, ("train", config.eval.split), config.data_dir)
    if config.data.features:
        if others:
            raise UserError("config.eval.datasets: config.data.features are of one dataset only.")
        if options.mode in (None, "prepare", "train"):
            features.prepare(config)
    if options.mode == "browse":
        sheet = workdir / "figures" / f"{config.data.name.replace('/', '-')}.png"
        try:
            contact_sheet(config.data.name, storage.plain(config.data_dir), sheet)
        except OSError as error:
            raise UserError(f"{sheet}: cannot be written ({error.strerror}).") from error
        progress.say(f"Scenes: {sheet}")
    if options.mode in (None, "train"):
        provenance.record(workdir, arguments)
        outcome = train.train(config, workdir)
        if outcome is Outcome.TIME_LIMIT:
            logging.info(
                "config.max_hours=%s is over; rerun the same command to resume.", config.max_hours
            )
            return 124
        if outcome is Outcome.PREEMPTED:
            logging.info("Preempted, checkpoint saved; rerun the same command to resume.")
            return 0
    if options.mode in (None, "evaluate") and processes.is_primary():
        evaluate.evaluate(config, workdir, others)
    if options.mode == "sample" and processes.is_primary():
        progress.say(f"Samples: {sample.sample(config, workdir, options.num_images)}")
    if options.mode in REPORTING and processes.is_primary():
        progress.say(f"Report: {report.write(config, workdir, options.compare)}")
    return 0


def writing(directory: epath.Path, mode: str | None) -> contextlib.AbstractContextManager:
    """The lock of the directory that is written, where this process writes there."""
    if mode == "prepare" or not processes.is_primary():
        return contextlib.nullcontext()
    return DirectoryLock(directory)


def check_devices() -> None:
    """Refuses a platform that JAX_PLATFORMS names and that is not there.

    Raises:
        UserError: naming it.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).splitlines() or ["JAX cannot start it"])[0][:200]
        raise UserError(
            f"JAX_PLATFORMS={platforms}: no such device ({reason}); install jax for it (README), "
            "or unset JAX_PLATFORMS."
        ) from error


def parse(arguments: list[str]) -> tuple[argparse.Namespace, run_config.ConfigDict]:
    """Options, and the config of the recipe or the run, with its overrides."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE[:VARIANT]", help="a recipe of configs/")
    parser.add_argument("--workdir", metavar="DIR", help="of the run; runs/<recipe> by default")
    parser.add_argument("--mode", choices=MODES, help="one part of the run instead of all")
    parser.add_argument(
        "--compare",
        metavar="DIR,DIR",
        type=lambda value: value.split(","),
        default=[],
        help="other evaluated runs, whose scores stand beside in the report",
    )
    parser.add_argument("--images", metavar="DIR or PATTERN", help="pictures of --mode=segment")
    parser.add_argument(
        "--out", metavar="DIR", type=lambda p: Path(p).expanduser(), help="of --mode=segment"
    )
    parser.add_argument("--skip_bad", action="store_true", help="pass over bad pictures and masks")
    parser.add_argument("--num_images", metavar="N", type=int, default=16, help="of --mode=sample")
    parser.add_argument(
        "--cache_dir",
        default=os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/akorn_jax"),
        help="compiled programs, to start faster",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    parser.add_argument("--num_processes", type=int, metavar="N")
    parser.add_argument("--process_id", type=int, metavar="I", help="of this process, from 0 on")
    options, overrides = parser.parse_known_args(arguments)
    for argument in overrides:
        if not (argument.startswith("--config.") and "=" in argument):
            raise UserError(f"{argument}: no such option; see --help.")
    if options.config is None and options.workdir is None:
        raise UserError("Nothing to run: pass --config=configs/X.py, or --workdir of a run.")
    if options.compare and options.mode not in REPORTING:
        raise UserError(f"--compare: --mode={options.mode} writes no report; leave it out.")
    if options.workdir is None:
        recipe = os.path.basename(options.config).replace(".py", "").replace(":", "_")
        options.workdir = os.path.join("runs", recipe)
    if options.config is None:
        workdir = epath.Path(storage.clean(options.workdir))
        config = base.complete(run_config.from_workdir(workdir))
    elif options.config.endswith(".json"):
        config = base.complete(run_config.from_json(epath.Path(options.config).expanduser()))
    else:
        config = run_config.from_recipe(_recipe_file(options.config))
    if "--config.data.name=folder" in overrides:
        protocols.use_folder(config)
    config = run_config.override(config, overrides)
    if config.data.name == "folder":
        name_folder(config)
    return options, config


def name_folder(config: run_config.ConfigDict) -> None:
    """Names the dataset that the pictures of `config.data.raw_dir` are, by their contents."""
    if not config.data.raw_dir:
        raise UserError("config.data.name=folder: set config.data.raw_dir to the pictures' folder.")
    key = key_of(Path(config.data.raw_dir), config.data.size, config.data.crop)
    config.data.name = f"folder/{key}"
    config.data.crop = None  # preparing cuts


def _recipe_file(recipe: str) -> str:
    """A recipe's file, also of a bare name: `demo:conv` is that of configs/."""
    name, colon, variant = recipe.partition(":")
    file = Path(__file__).parent / "configs" / f"{name}.py"
    bare = os.sep not in name and not name.endswith(".py")
    return f"{file}{colon}{variant}" if bare and file.is_file() else recipe


def prepare_data(
    protocol: run_config.ConfigDict, config: run_config.ConfigDict, *, skip_bad: bool
) -> None:
    """Makes sure that the dataset of a protocol can be read."""
    if records.is_of_tfds(protocol.name):
        records.open_builder(
            protocol.name, config.data_dir
        )  # if it is not there, says how to get it
        return
    prepare(
        protocol.name,
        storage.plain(config.data_dir),
        raw_dir=protocol.raw_dir or config.data.raw_dir,
        max_records=protocol.max_records,
        seed=protocol.seed,
        num_processes=jax.process_count(),
        process_index=jax.process_index(),
        skip_bad=skip_bad,
    )


if __name__ == "__main__":
    processes.end(lambda: main(sys.argv[1:]))
