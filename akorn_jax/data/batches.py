"""How scenes reach the devices: all of them at once, or batch by batch from disk.

Both give the same batches for the same seed and are stateless, so resuming needs no iterator
state: a batch is a pure function of the step (`records.EpochSampler`). Every process reads only the
rows of a batch that its own devices work on.
"""

import collections
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from akorn_jax.data import records
from akorn_jax.data.records import EpochSampler, Examples, OnDisk
from akorn_jax.errors import UserError
from akorn_jax.runtime import sharding

Array = jax.Array

RESIDENT_SHARE = 0.5  # of a device's memory that resident scenes may take
CHUNKS_ON_DEVICE = 2  # calls of the compiled step for which a stream is ahead
MAX_THREADS = 8  # that read a stream within one process
WORKER_BUFFER = 2  # chunks that a reading process is ahead
SHARED_MEMORY = "/dev/shm"  # where Linux keeps what processes share
SEMAPHORES = 1 << 20  # bytes for them there, a page each, and some more


class Batches(NamedTuple):
    """What one call of the compiled step reads; see `gather_batch`.

    Attributes:
        rows: which scenes each step sees, `[K, B]`, on the host.
        source: all scenes, `[N, ...]` by field; empty when streaming.
        indices: the rows on the devices, or when streaming the batches, `[K, B, ...]` by field.
        waited: seconds in which no batch was ready.
    """

    rows: np.ndarray
    source: dict[str, Array]
    indices: Array | dict[str, Array]
    waited: float


def gather_batch(
    source: Mapping[str, Array], indices: Array | dict[str, Array]
) -> dict[str, Array]:
    """The batch of one step, `[B, ...]` by field, inside the compiled step."""
    if isinstance(indices, dict):
        return indices
    return {name: array[indices] for name, array in source.items()}


def make(config: ConfigDict, names: Sequence[str], mesh: Mesh) -> "InMemory | Streaming":
    """The training scenes of `config.data`, as `config.data.loading` wants them fed.

    Args:
        config: all settings.
        names: "image", "segmentation" or attributes: what a batch holds.
        mesh: the devices.

    Raises:
        UserError: the data are not there, or are too many to be resident.
    """
    loading = config.data.loading
    if loading not in ("resident", "stream"):
        raise UserError(f"config.data.loading={loading!r} is unknown; use resident or stream.")
    filtered = records.is_filtered(config.data)
    if loading == "stream" or not filtered:
        stored = records.OnDisk(config.data, "train", config.data_dir, names)
        order = EpochSampler(len(stored), config.batch_size, config.seed)
    if loading == "stream":
        return Streaming(stored, names, order, mesh, config.num_steps, config.data.num_workers)
    if not filtered:  # so the size is known before all is read
        check_fits(len(stored), _size(fields(stored[0], names)), mesh)
    arrays, places = records.load_fields(config.data, "train", config.data_dir, names)
    check_fits(len(places), _size(arrays) / len(places), mesh)
    order = EpochSampler(len(places), config.batch_size, config.seed)
    return InMemory(arrays, order, mesh, places)


def first(config: ConfigDict, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The batch of step 0, `[B, ...]` by field, on the host, read from disk."""
    stored = records.OnDisk(config.data, "train", config.data_dir, names)
    rows = records.EpochSampler(len(stored), config.batch_size, config.seed)[0]
    scenes = [fields(stored[row], names) for row in rows]
    return {name: np.stack([scene[name] for scene in scenes]) for name in names}


class InMemory:
    """All scenes live in device memory, split over the devices; a step is told which to take.

    Args:
        arrays: `[N, ...]` by field.
        order: which scenes each step sees.
        mesh: the devices.
        records: `[N]`, each scene's place in the prepared split.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], order: EpochSampler, mesh: Mesh, records: np.ndarray
    ) -> None:
        self.records = records
        self._order = order
        self._replicated = sharding.replicated(mesh)
        split = sharding.batch_sharding(mesh)
        padded = {name: _padded(array, mesh.size) for name, array in arrays.items()}
        self._source = {
            name: jax.make_array_from_callback(array.shape, split, array.__getitem__)
            for name, array in padded.items()
        }

    def __call__(self, step: int, count: int) -> Batches:
        """What the steps step, ..., step + count - 1 take."""
        rows = np.stack([self._order[s] for s in range(step, step + count)])
        indices = jax.make_array_from_callback(rows.shape, self._replicated, rows.__getitem__)
        return Batches(rows, self._source, indices, waited=0.0)

    def __enter__(self) -> "InMemory":
        return self

    def __exit__(self, *_: Any) -> None:
        self._source = {}


class Streaming:
    """Scenes are read from disk in the background, a few batches before they are needed.

    Args:
        stored: the scenes.
        names: the fields of a batch.
        order: which scenes each step sees.
        mesh: the devices.
        num_steps: where the training ends.
        num_workers: processes that read, for scenes whose decoding holds Python's lock; 0 reads by
            threads of this process, which starts faster.
    """

    def __init__(
        self,
        stored: OnDisk,
        names: Sequence[str],
        order: EpochSampler,
        mesh: Mesh,
        num_steps: int,
        num_workers: int = 0,
    ) -> None:
        if num_workers < 0:
            raise UserError(f"config.data.num_workers={num_workers}: give 0 (threads) or more.")
        self.records = stored.records
        self._own = _own_positions(order.batch_size, mesh)
        self._reader = (stored, tuple(names), order, self._own)
        self._order = order
        self._sharding = NamedSharding(mesh, PartitionSpec(None, sharding.AXES))
        self._num_steps = num_steps
        self._num_workers = num_workers
        self._chunks: Iterator[dict[str, np.ndarray]] | None = None
        self._ready: collections.deque[dict[str, Array]] = collections.deque()

    def __call__(self, step: int, count: int) -> Batches:
        """What the steps step, ..., step + count - 1 take; calls must be consecutive."""
        if self._chunks is None:
            self._chunks = self._read(step, count)
        started = time.monotonic()
        while len(self._ready) < CHUNKS_ON_DEVICE:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._ready.append(self._put(chunk))
        waited = time.monotonic() - started
        rows = np.stack([self._order[s] for s in range(step, step + count)])
        return Batches(rows, {}, self._ready.popleft(), waited)

    def __enter__(self) -> "Streaming":
        return self

    def __exit__(self, *_: Any) -> None:
        self._ready.clear()
        self._chunks = None  # ends grain's threads and processes

    def _read(self, first: int, count: int) -> Iterator[dict[str, np.ndarray]]:
        if not flags.FLAGS.is_parsed():  # grain reads absl's flags, of which this program has none
            flags.FLAGS(sys.argv[:1])
        chunks = grain.MapDataset.source(_Source(*self._reader, first, count, self._num_steps))
        threads = 1 if self._num_workers else min(MAX_THREADS, os.cpu_count())
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        dataset = chunks.to_iter_dataset(options)
        if self._num_workers:
            size = sum(array.nbytes for array in chunks[0].values())
            check_shared_memory(self._num_workers, size * self._num_workers * (WORKER_BUFFER + 1))
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(
                    self._num_workers, per_worker_buffer_size=WORKER_BUFFER
                )
            )
        return iter(dataset)

    def _put(self, chunk: Mapping[str, np.ndarray]) -> dict[str, Array]:
        places = np.arange(self._order.batch_size)
        arrays = {}
        for name, array in chunk.items():
            shape = (len(array), len(places), *array.shape[2:])

            def part(index: tuple[slice, ...], array: np.ndarray = array) -> np.ndarray:
                # A copy: grain takes back the memory that it shares with its workers.
                return array[:, np.searchsorted(self._own, places[index[1]])]

            arrays[name] = jax.make_array_from_callback(shape, self._sharding, part)
        return arrays


class _Source:
    """This process's share of what each call takes, `[K, b, ...]` by field; grain's source."""

    def __init__(
        self,
        stored: OnDisk,
        names: tuple[str, ...],
        order: EpochSampler,
        positions: np.ndarray,
        first: int,
        count: int,
        num_steps: int,
    ) -> None:
        self._stored, self._names, self._order = stored, names, order
        self._positions = positions
        self._first, self._count, self._num_steps = first, count, num_steps

    def __len__(self) -> int:
        return -(-(self._num_steps - self._first) // self._count)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step = self._first + index * self._count
        steps = [self._batch(step + k) for k in range(self._count)]
        return {name: np.stack([batch[name] for batch in steps]) for name in self._names}

    def _batch(self, step: int) -> dict[str, np.ndarray]:
        rows = self._order[step][self._positions]
        scenes = [fields(self._stored[row], self._names) for row in rows]
        return {name: np.stack([scene[name] for scene in scenes]) for name in self._names}


def fields(
    examples: Examples | Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The arrays that a task asks for: "image", "segmentation" or the name of an attribute."""
    if isinstance(examples, Examples):
        examples = {
            "image": examples.images,
            "segmentation": examples.segmentation,
            **examples.attributes,
        }
    return {name: examples[name] for name in names}


def check_shared_memory(num_workers: int, num_bytes: int, directory: str = SHARED_MEMORY) -> None:
    """Refuses processes that could not hand over their batches; containers often have 64 MB.

    Raises:
        UserError: Linux keeps shared memory in `directory`, which has less room, or is read-only.
    """
    if not sys.platform.startswith("linux"):
        return
    writable = os.access(directory, os.W_OK)
    free = shutil.disk_usage(directory).free if writable else 0
    needed = num_bytes + SEMAPHORES
    if free < needed:
        state = f"has {free / 1e6:.1f} MB free" if writable else "cannot be written to"
        raise UserError(
            f"config.data.num_workers={num_workers}: {directory} {state}, where the reading "
            f"processes need {needed / 1e6:.1f} MB; enlarge it (docker run --shm-size=2g), or set "
            "config.data.num_workers=0, which reads by threads."
        )


def check_fits(num_scenes: int, scene_bytes: float, mesh: Mesh) -> None:
    """Refuses scenes that would take more than `RESIDENT_SHARE` of the devices' memory.

    Raises:
        UserError: naming the other way.
    """
    local = mesh.local_devices
    memory = min(memory_of(device) for device in local)
    needed = num_scenes * scene_bytes / mesh.size
    if needed > RESIDENT_SHARE * memory:
        raise UserError(
            f"config.data.loading='resident': {num_scenes} scenes take {needed / 1e9:.1f} GB on "
            f"each of {mesh.size} devices, more than {RESIDENT_SHARE:.0%} of its "
            f"{memory / 1e9:.1f} GB; use config.data.loading=stream or more devices."
        )


def memory_of(device: jax.Device) -> float:
    """Bytes that a device has; CPU devices share what the machine has."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return machine / jax.local_device_count()


def _own_positions(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Which places of a batch the devices of this process hold, ascending."""
    indices = sharding.batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    places = np.arange(batch_size, dtype=np.int32)
    return np.unique(np.concatenate([places[index] for index in indices.values()]))


def _padded(array: np.ndarray, multiple: int) -> np.ndarray:
    """With rows added that no step takes, so that every device holds as many."""
    missing = -len(array) % multiple
    return np.concatenate([array, array[:missing]]) if missing else array


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())
