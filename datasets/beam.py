"""Scenes drawn by Apache Beam, an optional extra: `pip install -r requirements-beam.txt`."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from datasets import sources
from datasets.errors import DatasetError
from datasets.sources import Arrays, Draw

if TYPE_CHECKING:
    import apache_beam as beam

_SCENES_PER_ELEMENT = 256  # drawn by one worker at once


def transform(draw: Draw, scenes: range, seed: int) -> "beam.PTransform":
    """A transform that yields `(index, example)`; TFDS sorts them by index.

    Raises:
      DatasetError: apache-beam is not installed.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise DatasetError(
            "beam_runner: apache-beam is missing; pip install -r requirements-beam.txt"
        ) from error
    starts = range(scenes.start, scenes.stop, _SCENES_PER_ELEMENT)
    work = functools.partial(_draw, draw, seed, scenes.stop)
    return beam.Create(starts) | beam.Reshuffle() | beam.FlatMap(work)


def _draw(draw: Draw, seed: int, stop: int, start: int) -> Iterator[tuple[int, Arrays]]:
    scenes = range(start, min(start + _SCENES_PER_ELEMENT, stop))
    yield from zip(scenes, sources.draw_examples(draw, seed, scenes), strict=True)
