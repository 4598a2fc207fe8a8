"""What is looked at while a model trains: its metrics, its speed, and whether they are finite."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

Array = jax.Array


class Watch:
    """Reads the metrics of finished steps, writes their means, and stops a run that diverged.

    Args:
        config: `log_every` and `skip_nonfinite`.
        views: images that the network sees for each scene of the batch.
        schedule: learning rate of the update after t others.
        writer: a CLU metric writer.
        last_good: what to say of where to go on from after a stop.
    """

    def __init__(
        self,
        config: ConfigDict,
        views: int,
        schedule: Callable[[int], Any],
        writer: Any,
        last_good: Callable[[], str],
    ) -> None:
        self.loss: float | None = None
        self._config = config
        self._images = views * config.batch_size
        self._schedule = schedule
        self._writer = writer
        self._last_good = last_good
        self._sums: list[dict[str, np.ndarray]] = []
        self._nonfinite = 0
        self._waited = 0.0
        self._since: float | None = None

    def waited(self, seconds: float) -> None:
        """Adds time in which the loop waited for data."""
        self._waited += seconds

    def __call__(self, done: int, metrics: dict[str, Array], rows: np.ndarray) -> None:
        """Looks at the metrics `[K]` of the K steps that ended with step `done`.

        Args:
            done: number of steps made after them.
            metrics: of each step.
            rows: the scenes each step saw, `[K, B]`.

        Raises:
            FloatingPointError: more than `skip_nonfinite` steps were not finite.
        """
        values = jax.device_get(metrics)  # waits for the device
        now = time.monotonic()
        self.loss = float(values["loss"][-1])
        for i in np.flatnonzero(~values.pop("finite")):
            self._nonfinite += 1
            if self._nonfinite > self._config.skip_nonfinite:
                step = done - len(rows) + int(i)
                raise FloatingPointError(
                    f"step {step}: loss {values['loss'][i]}, gradient norm "
                    f"{values['grad_norm'][i]}; {self._last_good()}. Lower "
                    "config.optimizer.learning_rate, or tolerate some with config.skip_nonfinite."
                    f" The batch's scenes: {rows[i].tolist()}"
                )
        self._sums.append(values)
        if self._since is None:  # the first call compiled: its time says nothing of the speed
            self._since, self._waited = now, 0.0
            return
        if done % self._config.log_every == 0:
            self._write(done, now)

    def _write(self, done: int, now: float) -> None:
        names = self._sums[0]
        means = {n: float(np.mean(np.concatenate([s[n] for s in self._sums]))) for n in names}
        steps = sum(len(s["loss"]) for s in self._sums)
        seconds = now - self._since
        scalars = {f"train/{name}": value for name, value in means.items()}
        scalars["train/learning_rate"] = float(self._schedule(done - 1))
        scalars["train/images_per_sec"] = steps * self._images / seconds
        scalars["train/step_seconds"] = seconds / steps
        scalars["train/data_wait_share"] = self._waited / seconds
        scalars["train/nonfinite_steps"] = self._nonfinite
        self._writer.write_scalars(done, scalars)
        self._sums, self._since, self._waited = [], now, 0.0
