"""A progress bar with rate and time left on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from absl import logging
from rich import progress as rich_progress
from rich.console import Console

_BAR_SECONDS = 0.2
_LOG_SECONDS = 30.0

T = TypeVar("T")


def track(items: Iterable[T], title: str, fraction: Callable[[], float]) -> Iterator[T]:
    """Yields `items`; shows how many, how fast, and by `fraction` (in [0, 1]) the time left."""
    console = Console(stderr=True)
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.fields[count]:,} records, {task.fields[rate]:,.0f}/s"),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    interval = _LOG_SECONDS if bar.disable else _BAR_SECONDS
    start = shown = time.monotonic()
    count = 0
    with bar:
        task = bar.add_task(title, total=1.0, count=0, rate=0.0)
        for item in items:
            yield item
            count += 1
            now = time.monotonic()
            if now - shown < interval:
                continue
            shown, done, rate = now, fraction(), count / (now - start)
            bar.update(task, completed=done, count=count, rate=rate)
            if bar.disable:
                left = (now - start) * (1 / done - 1) if done else float("nan")
                logging.info("%s: %d records, %.0f/s, %.0f s left", title, count, rate, left)
    seconds = max(time.monotonic() - start, 1e-9)
    logging.info("%s: %d records in %.1f s, %.0f/s", title, count, seconds, count / seconds)
