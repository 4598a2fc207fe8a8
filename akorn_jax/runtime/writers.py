"""Where metrics go: TensorBoard, the log and, if wanted, Weights & Biases, all by CLU's interface.

CLU's own TensorBoard writer is the one module of `clu.metric_writers` that needs TensorFlow, and
CLU imports it at import. Ours takes its place, so CLU must be imported from here:

    from akorn_jax.writers import metric_writers, periodic_actions
"""

import importlib
import io
import logging
import math
import os
import socket
import struct
import sys
import time
import types
from collections.abc import Iterable, Mapping
from typing import Any

import google_crc32c
import jax
import numpy as np
from etils import epath
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.utils import make_grid

from akorn_jax.errors import UserError
from akorn_jax.runtime import extras

_REPLACED = "clu.metric_writers.summary_writer"
if "clu.metric_writers" not in sys.modules:
    sys.modules[_REPLACED] = types.ModuleType(_REPLACED)
    sys.modules[_REPLACED].SummaryWriter = None  # until the class below, which needs CLU, exists
metric_writers = importlib.import_module("clu.metric_writers")
periodic_actions = importlib.import_module("clu.periodic_actions")

logger = logging.getLogger(__name__)

HISTOGRAM_BUCKETS = 30


def create_writer(
    workdir: epath.PathLike,
    *,
    first_step: int = 0,
    just_logging: bool | None = None,
    wandb_project: str = "",
) -> metric_writers.MetricWriter:
    """The writer of a run; it works in the background, `flush` waits for it.

    Args:
        workdir: gets TensorBoard's events.
        first_step: updates made before this run. What an earlier run that got further wrote after
            it disappears from TensorBoard, so that no step is there twice.
        just_logging: log lines only; by default on all processes but the first.
        wandb_project: also write to this project of Weights & Biases.

    Raises:
        UserError: Weights & Biases is wanted and not installed.
    """
    writers = [LogWriter()]
    if just_logging is None:
        just_logging = jax.process_index() > 0
    if not just_logging:
        writers.append(SummaryWriter(workdir, first_step=first_step))
        if wandb_project:
            writers.append(WandbWriter(workdir, wandb_project))
    return metric_writers.AsyncMultiWriter(writers)


class LogWriter(metric_writers.LoggingWriter):
    """One short line of scalars a step; of other values, that they were written."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        values = ", ".join(f"{name} {float(value):.5g}" for name, value in sorted(scalars.items()))
        logger.info("step %d: %s", step, values)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        self._note(step, "images", images)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._note(step, "texts", texts)

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, Any],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        del num_buckets
        self._note(step, "histograms", arrays)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Nothing: the config is logged by itself."""

    @staticmethod
    def _note(step: int, kind: str, names: Iterable[str]) -> None:
        names = list(names)
        logger.info("step %d: wrote %d %s (%s ...)", step, len(names), kind, names[0])


class _Writer(metric_writers.MetricWriter):
    """Raises for CLU's value kinds that are not supported."""

    def write_summaries(self, step: int, values: Mapping[str, Any], metadata: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} writes no raw summaries")

    def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} writes no videos")

    def write_audios(self, step: int, audios: Mapping[str, Any], *, sample_rate: int) -> None:
        raise NotImplementedError(f"{type(self).__name__} writes no audio")


class SummaryWriter(_Writer):
    """TensorBoard's event files, without TensorFlow.

    Every record is in the file when the call returns: a run that is killed loses nothing. Storage
    that is full or fails costs the record and a warning, and leaves the file readable. On `gs://`
    the file is written when it is flushed.
    """

    def __init__(self, logdir: epath.PathLike, *, first_step: int = 0):
        """Starts an event file; points of earlier files with steps after `first_step` are hidden.

        Args:
            logdir: made if need be.
            first_step: see above; 0 hides nothing.
        """
        self._directory = epath.Path(logdir)
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._path = self._directory / f"{name}.{time.monotonic_ns()}"
        remote = "://" in str(self._directory)
        self._file = io.BytesIO() if remote else open(self._path, "wb", buffering=0)  # noqa: SIM115
        self._failed = False
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first_step:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        for name, value in scalars.items():
            self._add(step, Summary(value=[Summary.Value(tag=name, simple_value=float(value))]))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Images `[H, W, C]`, or `[N, H, W, C]` that become one grid; uint8 or floats in [0, 1]."""
        for name, value in images.items():
            image = np.asarray(value)
            if image.dtype != np.uint8:
                image = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
            if image.ndim == 4:
                grid = make_grid(image.transpose(0, 3, 1, 2), ncols=math.isqrt(len(image) - 1) + 1)
                image = grid.transpose(1, 2, 0)
            self._add(step, summary.image(name, image, dataformats="HWC"))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        for name, value in texts.items():
            self._add(step, summary.text(name, value))

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, Any],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        """Histograms of the finite entries; arrays without any are left out."""
        for name, value in arrays.items():
            value = np.asarray(value, np.float64).ravel()
            value = value[np.isfinite(value)]
            if value.size:
                bins = (num_buckets or {}).get(name) or HISTOGRAM_BUCKETS
                self._add(step, summary.histogram(name, value, bins))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Nested mappings are flattened to `model/channels`."""
        for part in summary.hparams(_flatten(hparams), {}):
            self._add(None, part)

    def flush(self) -> None:
        if isinstance(self._file, io.BytesIO):
            self._path.write_bytes(self._file.getvalue())

    def close(self) -> None:
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _add(self, step: int | None, value: Summary) -> None:
        event = Event(wall_time=time.time(), summary=value)
        if step is not None:
            event.step = step
        self._write(event)

    def _write(self, event: Event) -> None:
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + _masked_crc(length) + data + _masked_crc(data)
        start = self._file.tell()
        try:
            written = self._file.write(record)
            while written < len(record):  # an unbuffered file may take a part and fail at the next
                written += self._file.write(record[written:])
            self._failed = False
        except OSError as error:
            self._file.seek(start)
            self._file.truncate()  # half a record would hide all later ones
            if not self._failed:
                logger.warning("metrics are not written to %s: %s", self._path, error)
            self._failed = True


class WandbWriter(_Writer):
    """Weights & Biases; a run that is started again in the same workdir continues its page."""

    def __init__(self, workdir: epath.PathLike, project: str):
        """Logs in as the `wandb` command line tool was told to.

        Raises:
            UserError: the package is not installed.
        """
        try:
            self._wandb = importlib.import_module("wandb")
        except ModuleNotFoundError as error:
            raise UserError(
                f"wandb_project={project!r}: {extras.explain(error)}, or leave the project empty"
            ) from error
        name = epath.Path(workdir).name
        identity = f"{project}-{epath.Path(workdir).absolute()}"
        self._run = self._wandb.init(
            project=project,
            name=name,
            id=f"{google_crc32c.value(identity.encode()):08x}",
            dir=None if "://" in str(workdir) else str(workdir),
            resume="allow",
        )
        # Evaluations end after later steps: wandb's own count of steps would drop them.
        self._run.define_metric("*", step_metric="step")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._log(step, {name: float(value) for name, value in scalars.items()})

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        logged = {}
        for name, value in images.items():
            value = np.asarray(value)
            batch = value if value.ndim == 4 else value[None]
            logged[name] = [self._wandb.Image(image) for image in batch]
        self._log(step, logged)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._log(step, {name: self._wandb.Html(f"<pre>{t}</pre>") for name, t in texts.items()})

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, Any],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        logged = {}
        for name, value in arrays.items():
            bins = (num_buckets or {}).get(name) or HISTOGRAM_BUCKETS
            logged[name] = self._wandb.Histogram(np.asarray(value), num_bins=bins)
        self._log(step, logged)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(_flatten(hparams), allow_val_change=True)

    def flush(self) -> None:
        """Nothing: wandb's own process sends what is logged."""

    def close(self) -> None:
        self._run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({"step": step, **values})


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as `a/b`; what is no number, string or bool becomes its text."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) or hasattr(value, "items"):
            flat |= _flatten(value, f"{prefix}{name}/")
        else:
            plain = isinstance(value, bool | int | float | str)
            flat[f"{prefix}{name}"] = value if plain else str(value)
    return flat


def _masked_crc(data: bytes) -> bytes:
    """CRC32C as TFRecord files hold it: rotated and offset."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# What CLU bound at import while the class did not exist.
for _module in (_REPLACED, "clu.metric_writers.utils", "clu.metric_writers"):
    sys.modules[_module].SummaryWriter = SummaryWriter
