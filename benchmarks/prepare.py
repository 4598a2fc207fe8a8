"""How fast published files become prepared data, on one core.

    python -m benchmarks.prepare [--raw_dir=DIR] [--tetrominoes=20000] [--clevr=300]

Without `--raw_dir` the files are made here in the published format: drawn Tetrominoes, and CLEVR
records of a noisy shaded ground with discs (0.1 MB each when compressed, as published). With it
the first records of the published files are used. Rates are records per CPU second, all threads
counted, of a process pinned to one core: what one idle core does.

  gunzip      the program `gunzip -c`, decompressing alone
  baseline    one record after the other as the converters of the published repositories do it,
              without TensorFlow: gzip, `tf.train.Example` parsed with TFDS's `tf_example_pb2`,
              each array joined from its one-byte strings, masks to a label map by argmax,
              arrays appended to lists; nothing is written
  read        `datasets.multi_object.read`: isal, checksums, one label map
  prepare     `datasets.prepare.prepare`: read, and written as TFDS ArrayRecord
"""

import argparse
import gzip
import itertools
import os
import resource
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from datasets import multi_object, schemas
from datasets.prepare import prepare
from datasets.scenes import tetrominoes
from datasets.schemas import Schema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--raw_dir", type=Path, help="directory of the published files")
    parser.add_argument("--tetrominoes", type=int, default=20_000, help="records")
    parser.add_argument("--clevr", type=int, default=300, help="records")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    made = {"tetrominoes": made_tetrominoes, "clevr_with_masks": made_clevr}
    print(f"{'records per CPU second':24}{'gunzip':>10}{'baseline':>10}{'read':>10}{'prepare':>10}")
    for name, count in (("tetrominoes", options.tetrominoes), ("clevr_with_masks", options.clevr)):
        schema = schemas.find(name)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / Path(schema.file).name
            records = made[name](count)
            if options.raw_dir:
                published = options.raw_dir / path.name
                records = itertools.islice(multi_object.read(published, name), count)
            multi_object.write(path, name, records, compressed=False)
            path.write_bytes(gzip.compress(path.read_bytes(), 6))  # zlib's level, as published
            rates = measure(path, schema, count, Path(scratch) / "data")
        print(f"{name:24}" + "".join(f"{rate:10,.0f}" for rate in rates))


def measure(path: Path, schema: Schema, count: int, data_dir: Path) -> list[float]:
    """Records per CPU second of gunzip, baseline, read and prepare."""
    few = max(count // 10, 20)  # the baseline takes long

    def rate(number: int, work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return number / (time.process_time() - start)

    def consume(records: Iterator) -> None:
        for _ in records:
            pass

    return [
        count / child_seconds(["gunzip", "-c", str(path)]),
        rate(few, lambda: list(itertools.islice(baseline(path, schema), few))),
        rate(count, lambda: consume(multi_object.read(path, schema.name))),
        rate(count, lambda: prepare(f"{schema.name}/official", data_dir, raw_dir=path.parent)),
    ]


def child_seconds(command: list[str]) -> float:
    """CPU seconds of a command whose output is thrown away."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    start = used()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return used() - start


def baseline(path: Path, schema: Schema) -> Iterator[dict[str, np.ndarray]]:
    with gzip.open(path) as stream:
        while header := stream.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            example = tf_example_pb2.Example.FromString(stream.read(length))
            stream.read(4)
            record = {}
            for name, field in schema.fields.items():
                feature = example.features.feature[name]
                if field.dtype == "uint8":
                    values = np.frombuffer(b"".join(feature.bytes_list.value), np.uint8)
                else:
                    values = np.array(feature.float_list.value, np.float32)
                record[name] = values.reshape(field.shape)
            record["segmentation"] = record.pop("mask")[..., 0].argmax(0).astype(np.uint8)
            yield record


def made_tetrominoes(count: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, count, 1000):
        drawn = tetrominoes.batch(0, np.arange(start, min(start + 1000, count)))
        for i in range(len(drawn["image"])):
            yield {name: values[i] for name, values in drawn.items()}


def made_clevr(count: int) -> Iterator[dict[str, np.ndarray]]:
    """Discs with a gradient on a noisy ground: what compresses like a CLEVR picture."""
    schema = schemas.find("clevr_with_masks")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    for _ in range(count):
        labels = np.zeros((240, 320), np.uint8)
        image = 110 + 0.1 * rows[..., None] + rng.normal(0, 1, (240, 320, 3))
        for entity in range(1, rng.integers(4, 12)):
            y, x, radius = rng.uniform(60, 200), rng.uniform(40, 280), rng.uniform(8, 30)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            labels[inside] = entity
            image[inside] = image[inside] * rng.uniform(0.2, 1.5, 3)
        record = {"image": image.clip(0, 255).astype(np.uint8), "segmentation": labels}
        for name, field in schema.attributes:
            record[name] = np.ones(field.shape, np.dtype(field.dtype))
        yield record


if __name__ == "__main__":
    main()
