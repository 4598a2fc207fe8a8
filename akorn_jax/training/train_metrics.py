"""What people watch while a model trains: metrics, speed, parameters, profiles."""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from etils import epath
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from akorn_jax.data.batches import Batches
from akorn_jax.runtime import processes, sharding
from akorn_jax.runtime.tree_paths import by_name
from akorn_jax.training.nonfinite import NonFiniteGuard

Array = jax.Array
PyTree = Any

PROFILED_CALLS = 5


class TrainMetrics:
    """Reads the metrics of finished steps and writes their means.

    Args:
        config: `log_every` and `histogram_every`.
        views: images that the network sees for each scene of the batch.
        schedule: learning rate of the update after t others.
        writer: a CLU metric writer.
        nonfinite: is told of steps that were not finite.
    """

    def __init__(
        self,
        config: ConfigDict,
        views: int,
        schedule: Callable[[int], Any],
        writer: Any,
        nonfinite: NonFiniteGuard,
    ) -> None:
        self.loss: float | None = None
        self._config = config
        self._images = views * config.batch_size
        self._schedule = schedule
        self._writer = writer
        self._nonfinite = nonfinite
        self._sums: list[dict[str, np.ndarray]] = []
        self._since: float | None = None  # what follows is of the time since then
        self._timed = 0  # steps
        self._waited = 0.0

    def log_header(self, step: int, params: PyTree) -> None:
        """Writes the config and a table of the parameters."""
        shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
        table = parameter_overview.get_parameter_overview(
            nnx.to_pure_dict(shapes), include_stats=False
        )
        config = json.dumps(self._config.to_dict(), indent=2, sort_keys=True)
        texts = {"config": f"```\n{config}\n```", "parameters": f"```\n{table}\n```"}
        self._writer.write_texts(step, texts)
        self._writer.write_hparams(self._config.to_dict())

    def __call__(self, done: int, metrics: dict[str, Array], batch: Batches) -> None:
        """Looks at the metrics `[K]` of the K steps that ended with step `done`.

        Args:
            done: number of steps made after them.
            metrics: of each step.
            batch: what they took.

        Raises:
            UserError: more than `skip_nonfinite` steps were not finite.
        """
        values = jax.device_get(metrics)  # waits for the device
        now = time.monotonic()
        self.loss = float(values["loss"][-1])
        for i in np.flatnonzero(~values.pop("finite")):
            step = done - len(batch.rows) + int(i)
            self._nonfinite(step, values["loss"][i], values["grad_norm"][i], batch.rows[i])
        self._sums.append(values)
        if self._since is not None:
            self._timed += len(batch.rows)
            self._waited += batch.waited
        if done % self._config.log_every == 0:
            self._write(done, now)
        if self._since is None:  # the first call compiled: its time says nothing of the speed
            self._since = now

    def histograms(self, done: int, params: PyTree, mesh: Mesh) -> None:
        """Every `histogram_every` steps: how each array of parameters is distributed."""
        every = self._config.histogram_every
        if not every or done % every:
            return
        whole = sharding.gather(params, mesh)
        if processes.is_primary():
            arrays = {f"params/{n}": np.asarray(x, np.float32) for n, x in by_name(whole).items()}
            self._writer.write_histograms(done, arrays)

    def _write(self, done: int, now: float) -> None:
        names = self._sums[0].keys() - {"rate_scale"}
        means = {n: float(np.mean(np.concatenate([s[n] for s in self._sums]))) for n in names}
        scalars = {f"train/{name}": value for name, value in means.items()}
        scale = self._sums[-1]["rate_scale"][-1]
        scalars["train/learning_rate"] = float(self._schedule(done - 1) * scale)
        if self._timed:
            seconds = now - self._since
            scalars["train/images_per_sec"] = self._timed * self._images / seconds
            scalars["train/step_seconds"] = seconds / self._timed
            scalars["train/data_wait_share"] = self._waited / seconds
        scalars["train/nonfinite_steps"] = self._nonfinite.count
        scalars |= _memory()
        self._writer.write_scalars(done, scalars)
        self._sums, self._since, self._timed, self._waited = [], now, 0, 0.0


class Profiler:
    """Writes a profile of `PROFILED_CALLS` calls of the compiled step, for TensorBoard.

    Args:
        workdir: gets `plugins/profile`.
        at: first step that is profiled; 0 is none.
    """

    def __init__(self, workdir: epath.Path, at: int) -> None:
        self._directory = str(workdir)
        self._at = at if processes.is_primary() else 0
        self._left = 0

    def __call__(self, done: int, before: Array | None) -> None:
        """Called before each call of the step, with any result of the one before it."""
        if self._at and done >= self._at:
            self._at = 0
            self._left = PROFILED_CALLS
            jax.block_until_ready(before)
            jax.profiler.start_trace(self._directory)
        elif self._left:
            self._left -= 1
            if not self._left:
                jax.block_until_ready(before)
                jax.profiler.stop_trace()

    def close(self) -> None:
        """Ends a profile that is not complete."""
        if self._left:
            jax.profiler.stop_trace()
            self._left = 0


def _memory() -> dict[str, float]:
    """Gigabytes on the first device, where it says."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "train/device_gb", "peak_bytes_in_use": "train/device_peak_gb"}
    return {name: stats[key] / 1e9 for key, name in names.items() if key in stats}
