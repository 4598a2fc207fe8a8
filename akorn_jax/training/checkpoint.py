"""Checkpoints that are either intact or not used.

A step is written by orbax in the background, under a temporary name until it is complete. Then the
SHA-256 of all its files is written beside it, in the format of `sha256sum -c`:

    DIR/120/...        the step: arrays by name under `state`, a small JSON dict under `extra`
    DIR/120.sha256     its checksums; `saving` until then

Orbax restores an array with a flipped bit without complaint, so every file is verified before it is
trusted. A run that is killed at any moment leaves at worst a step that is marked as `saving`, which
is ignored; older steps are removed only when a newer one has its checksums.

A save that does not return (storage that does not answer) is waited for `PATIENCE` seconds. Then
the run goes on without it and saves no other step until it has returned.
"""

import concurrent.futures
import contextlib
import logging
import math
import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from akorn_jax.errors import UserError
from akorn_jax.runtime import storage, tensorstore_threads
from akorn_jax.runtime.tree_paths import by_name
from akorn_jax.training import checksums

PyTree = Any

logger = logging.getLogger(__name__)

TEMPORARY = ".orbax-checkpoint-tmp"  # orbax's suffix for what is not finalised
INDEX = "manifest.ocdbt"  # without it no array can be found
NONE, NONE_INTACT = -1, -2
# Seconds. Orbax gives a step up that has not written its arrays by then; putting it in its place,
# waiting for other processes and the checksums come on top, for which orbax has no limit.
WRITE_LIMIT = 300
PATIENCE = 3 * WRITE_LIMIT


class Restored(NamedTuple):
    """A checkpoint that was read back."""

    step: int
    state: PyTree
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run, in one directory.

    All processes call all methods in the same order; process 0 verifies, hashes and removes.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep: int = 3,
        alone: bool = False,
        patience: float = PATIENCE,
    ):
        """Creates nothing until the first `save`.

        Args:
            directory: where the steps are, local or e.g. `gs://bucket/run/checkpoints`; seen by
                all processes.
            keep: how many complete steps stay, at least 1.
            alone: this process reads or writes while the others do something else.
            patience: how many seconds a save is waited for, by the monotonic clock.

        Raises:
            UserError: `keep` is less than 1.
        """
        if keep < 1:
            raise UserError(f"keep={keep!r}: at least one checkpoint must stay; give 1 or more")
        self.directory = _absolute(epath.Path(directory))
        self.keep = keep
        self.patience = patience
        self.stuck = False  # the last save was waited for in vain and has not returned since
        self.last_step: int | None = None  # newest step known to be intact
        self._damaged: set[int] = set()  # steps that this run has fallen back from
        process = jax.process_index()
        self._alone = alone or jax.process_count() == 1
        self._primary = alone or process == 0
        self._prepared = False
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future | None = None
        self._pending_step: int | None = None
        tensorstore_threads.keep_one()
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.PyTreeCheckpointHandler(), extra=ocp.JsonCheckpointHandler()
        )
        together = ocp.options.MultiprocessingOptions()
        apart = ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix="alone"
        )
        self._orbax = ocp.AsyncCheckpointer(
            handler, timeout_secs=WRITE_LIMIT, multiprocessing_options=apart if alone else together
        )

    def save(self, step: int, state: PyTree, extra: Mapping[str, Any] | None = None) -> None:
        """Starts to write a step and returns when `state` may be changed or donated.

        A step of this name that is already there is replaced, unless this run saved or verified
        it. Storage that is full, fails or does not answer costs a warning and the step, nothing
        else.

        Args:
            step: its number.
            state: a pytree of arrays.
            extra: what JSON can hold, e.g. the config's fingerprint and the data iterator's state.

        Raises:
            UserError: the directory cannot be made or written.
        """
        self.wait()
        if self._anywhere(self.stuck):
            logger.warning("checkpoint %d not saved: an earlier one is still being saved", step)
            return
        arrays = _arrays(state)
        if not self._agree(self._begin(step, arrays) if self._primary else 0):
            return
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(arrays), extra=ocp.args.JsonSave(dict(extra or {}))
        )
        try:
            self._orbax.save(storage.plain(self.directory) / str(step), args=args, force=True)
        except Exception as error:
            self._abandon(step, error)
        else:
            self._pending = self._thread.submit(self._seal, step)
            self._pending_step = step

    def restore_latest(
        self, like: PyTree, sharding: PyTree = None, *, partial: bool = False
    ) -> Restored | None:
        """The newest intact step; damaged ones are named in warnings and left alone.

        Args:
            like: arrays or `jax.ShapeDtypeStruct`s in the structure of the saved state.
            sharding: where to put the arrays, one for all or one for each; any topology will do,
                whatever the step was saved from. By default that of `like`'s arrays.
            partial: `like` names some of the arrays (e.g. only the averages); others are not read.

        Returns:
            The state and what was saved with it, None where there is no checkpoint.

        Raises:
            UserError: checkpoints exist but none is intact, or the state is not like `like`.
        """
        self.wait()
        step = self._agree(self._newest_intact() if self._primary else 0)
        if step == NONE:
            return None
        if step == NONE_INTACT:
            raise UserError(
                f"{self.directory}: no checkpoint is intact (warnings above name the damage), "
                "nothing was deleted; restore one from a backup or choose another workdir"
            )
        path = storage.plain(self.directory) / str(step)
        names = _arrays(like)
        self._check_fit(path, names, partial)
        if sharding is None:
            sharding = jax.tree.map(_own_sharding, like)
        elif isinstance(sharding, jax.sharding.Sharding):
            sharding = jax.tree.map(lambda _: sharding, like)
        shardings = dict(zip(names, jax.tree.leaves(sharding), strict=True))
        item = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in names.items()}
        restore_args = {
            name: ocp.ArrayRestoreArgs(
                sharding=shardings[name], global_shape=x.shape, dtype=x.dtype
            )
            for name, x in item.items()
        }
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(item, restore_args, partial_restore=True),
            extra=ocp.args.JsonRestore(),
        )
        restored = self._orbax.restore(path, args=args)
        if not partial:
            self.last_step = step
        leaves, treedef = jax.tree.flatten(like)
        values = [
            _as_leaf(restored.state[name], leaf) for name, leaf in zip(names, leaves, strict=True)
        ]
        return Restored(step, jax.tree.unflatten(treedef, values), restored.extra)

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct] | None:
        """The arrays of the newest intact step by name; None where there is no checkpoint."""
        self.wait()
        step = self._agree(self._newest_intact() if self._primary else 0)
        if step < 0:
            return None
        path = storage.plain(self.directory) / str(step)
        saved = self._orbax.metadata(path).item_metadata["state"].tree
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in saved.items()}

    def steps(self) -> list[int]:
        """The steps of which there is anything on disk, ascending, intact or not."""
        if not self.directory.exists():
            return []
        names = {path.name.removesuffix(".sha256") for path in self.directory.iterdir()}
        return sorted(int(name) for name in names if name.isdecimal())

    def describe_latest(self) -> str:
        """Human-readable description of the newest intact checkpoint."""
        self.wait()
        if self.last_step is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self.directory / str(self.last_step)}"

    def wait(self) -> None:
        """Returns when the last `save` has its checksum, was given up, or is `stuck`."""
        if self._pending is None:
            return
        done, _ = concurrent.futures.wait([self._pending], 0 if self.stuck else self.patience)
        if done:
            pending, self._pending, self.stuck = self._pending, None, False
            pending.result()
        elif not self.stuck:
            self.stuck = True
            logger.warning(
                "checkpoint %d not saved: %s has not answered for %.0f s; training continues and "
                "saves nothing until it does, the last good checkpoint is %s",
                *(self._pending_step, self.directory, self.patience, self.last_step),
            )

    def close(self) -> None:
        """Waits, then ends the threads, but for those of a save that is stuck."""
        self.wait()
        self._thread.shutdown(wait=not self.stuck)
        if not self.stuck:
            self._orbax.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # --- writing

    def _begin(self, step: int, arrays: Mapping[str, jax.Array]) -> bool:
        """Whether to save; makes the directory and removes what a killed run left half-written."""
        if step == self.last_step:
            return False
        try:
            if not self._prepared:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._remove_temporaries()
                self._prepared = True
            if not self._room_for(step, arrays):
                return False
            checksums.begin(self.directory, str(step))
        except OSError as error:
            if storage.is_storage_error(error):
                self._abandon(step, error)
                return False
            raise UserError(
                f"{self.directory}: cannot write checkpoints there ({error.strerror}); choose "
                "another workdir or change its permissions"
            ) from error
        return True

    def _remove_temporaries(self) -> None:
        for path in self.directory.iterdir():
            if TEMPORARY in path.name:
                _remove_if_possible(path)

    def _room_for(self, step: int, arrays: Mapping[str, jax.Array]) -> bool:
        """Whether a local disk has room; asked first because orbax fails very loudly."""
        if "://" in str(self.directory):
            return True
        needed = sum(x.dtype.itemsize * math.prod(x.shape) for x in arrays.values())
        free = shutil.disk_usage(self.directory).free
        if free <= needed:
            logger.warning(
                "checkpoint %d not saved: %s needs %.1f MB and has %.1f MB free; training "
                "continues, the last good checkpoint is %s",
                *(step, self.directory, needed / 1e6, free / 1e6, self.last_step),
            )
        return free > needed

    def _seal(self, step: int) -> None:
        """Runs in the background: the checksums, once orbax is done, then old steps go."""
        try:
            self._orbax.wait_until_finished()
            if self._primary:
                if not (self.directory / str(step) / "state" / INDEX).exists():
                    raise UserError(f"{self.directory / str(step)}: has no index ({INDEX}).")
                checksums.write(self.directory, str(step), TEMPORARY)
        except Exception as error:
            self._abandon(step, error)
            return
        self.last_step = step
        if self._primary:
            self._remove_old(step)

    def _abandon(self, step: int, error: Exception) -> None:
        """Lets the run outlive failing storage, also of another process (it does not answer)."""
        if not storage.is_storage_error(error) and not isinstance(error, TimeoutError):
            raise error
        logger.warning(
            "checkpoint %d not saved: %s; training continues, the last good checkpoint is %s",
            *(step, " ".join(str(error).split()), self.last_step),
        )
        if self._primary and self.directory.exists():
            self._remove_temporaries()
            self._remove(step)

    def _remove_old(self, step: int) -> None:
        """After `step` is complete: earlier ones but for `keep`, and what is not usable."""
        steps = self.steps()
        useless = {s for s in steps if checksums.incomplete(self.directory, str(s))}
        useless |= self._damaged - {step}
        earlier = [s for s in steps if s <= step and s not in useless]
        for old in useless.union(earlier[: -self.keep]):
            self._remove(old)
        self._damaged.clear()

    def _remove(self, step: int) -> None:
        # So a run that is killed in between leaves a step that is incomplete, not damaged; a full
        # disk that does not take the note is a reason to remove all the same.
        with contextlib.suppress(OSError):
            checksums.begin(self.directory, str(step))
        if _remove_if_possible(self.directory / str(step)):
            _remove_if_possible(checksums.file_of(self.directory, str(step)))

    # --- verifying

    def _newest_intact(self) -> int:
        result = NONE
        for step in reversed(self.steps()):
            if checksums.incomplete(self.directory, str(step)):
                logger.info("checkpoint %d was not completed and is ignored", step)
                continue
            damage = checksums.damage(self.directory, str(step))
            if damage is None:
                return step
            logger.warning("checkpoint %s is damaged: %s", self.directory / str(step), damage)
            self._damaged.add(step)
            result = NONE_INTACT
        return result

    def _check_fit(self, path: epath.Path, names: Mapping[str, Any], partial: bool) -> None:
        saved = self._orbax.metadata(path).item_metadata["state"].tree
        problems = [f"{name} is missing" for name in names if name not in saved]
        if not partial:
            problems += [f"{name} is unknown" for name in saved if name not in names]
        for name in set(names) & set(saved):
            ours, theirs = (f"{x.dtype}{list(x.shape)}" for x in (names[name], saved[name]))
            if ours != theirs:
                problems.append(f"{name} is {theirs}, not {ours}")
        if problems:
            shown = sorted(problems)[:5] + ["..."] * (len(problems) > 5)
            raise UserError(
                f"{path}: is the checkpoint of another config: {', '.join(shown)}; use the config "
                "of that run or another workdir"
            )

    # --- small parts

    def _anywhere(self, value: bool) -> bool:
        """Whether it is so on any process."""
        if self._alone:
            return value
        return bool(multihost_utils.process_allgather(np.int32(value)).any())

    def _agree(self, value: int) -> int:
        """Process 0's value, on every process."""
        if self._alone:
            return int(value)
        return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _remove_if_possible(path: epath.Path) -> bool:
    """Removes what no run reads, and says whether it could; a thread that was given up, e.g. since
    the clock jumped past its time limit, may still be writing there. What stays is not complete,
    so it is ignored, and the next run tries again."""
    try:
        storage.remove(path)
    except OSError as error:
        logger.warning("%s could not be removed: %s", path, error)
        return False
    return True


def _arrays(tree: PyTree) -> dict[str, Any]:
    """The leaves by name, e.g. `ema.layers.0.kernel`; random keys as their data."""
    return {name: _key_data(leaf) for name, leaf in by_name(tree, ".").items()}


def _key_data(leaf: Any) -> Any:
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(jax.random.key_data, leaf)
    return jax.random.key_data(leaf)


def _as_leaf(value: jax.Array, like: Any) -> jax.Array:
    if not jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
        return value
    impls = []
    jax.eval_shape(lambda key: impls.append(jax.random.key_impl(key)), like)  # also if abstract
    return jax.random.wrap_key_data(value, impl=impls[0])


def _absolute(directory: epath.Path) -> epath.Path:
    """Orbax takes no relative paths."""
    remote = "://" in str(directory)
    return directory if remote else epath.Path(os.path.abspath(directory))


def _own_sharding(leaf: Any) -> jax.sharding.Sharding:
    own = getattr(leaf, "sharding", None)
    return own if own is not None else jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
