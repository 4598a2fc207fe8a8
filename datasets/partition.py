"""Scenes drawn by several processes, on one machine or on many that share `data_dir`.

Process i of n draws the i-th of n equal ranges into a directory of its own. When all are there,
the first to see it puts them together. A part that is finished stays finished if its process or
another dies, so the same command again resumes where it stopped.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.shards import Shards

if TYPE_CHECKING:
    from datasets.builder import MultiObjectBuilder

_INDEX = "shards.json"


def directories(root: Path, builder: "MultiObjectBuilder", num: int) -> tuple[Path, ...]:
    """Where the parts lie; named after all that decides what is in them."""
    key = f"{builder.version}-seed{builder.source.seed}-scenes{len(builder.scenes)}-of{num}"
    return tuple(root / key / str(part) for part in range(num))


def is_complete(directory: Path) -> bool:
    return (directory / _INDEX).exists()


def draw(builder: "MultiObjectBuilder", part: int, num: int, scratch: Path, target: Path) -> None:
    """Draws a part in the empty directory `scratch` and moves it to `target`."""
    count = len(builder.scenes)
    scenes = range(count * part // num, count * (part + 1) // num)
    written = scratch / "part"
    written.mkdir()
    shards = builder.write(builder.stream(scenes), f"part {part + 1} of {num}", written)
    names = [path.name for path in shards.paths]
    index = {"names": names, "lengths": shards.lengths, "num_bytes": shards.num_bytes}
    (written / _INDEX).write_text(json.dumps(index))
    target.parent.mkdir(parents=True, exist_ok=True)
    written.rename(target)


def collect(directories: Sequence[Path], target: Path) -> Shards:
    """Links the shards of all parts into `target`, in order; copies them where links fail."""
    shards = Shards()
    for part, directory in enumerate(directories):
        index = json.loads((directory / _INDEX).read_text())
        paths = [target / f"part-{part}-{name}" for name in index["names"]]
        for name, path in zip(index["names"], paths, strict=True):
            _link(directory / name, path)
        shards += Shards(paths, index["lengths"], index["num_bytes"])
    return shards


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems have no hard links
        shutil.copyfile(source, target)
