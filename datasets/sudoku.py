"""Sudoku boards: SATNet's (arXiv 1905.12149), RRN's hard ones (arXiv 1711.08028), synthetic ones.

`satnet` reads `features.pt` and `labels.pt`, 10,000 boards of 31 to 42 givens in file order; `rrn`
reads `train.csv`, `valid.csv` and `test.csv`, boards of 17 to 34. `config.data.raw_dir` is where
these files are, or the archives that hold them. Procedural boards have as many givens, uniformly
many of each number (as RRN's have, 1,000 of each in the test), and there are small ones, 4x4 and
6x6, also of few givens (`_hard`); see `datasets/scenes/sudoku.py`.
"""

import functools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets import sources, torch_tensor
from datasets.builder import MultiObjectBuilder, Variant, tensors
from datasets.errors import DamagedFileError
from datasets.scenes import sudoku as boards
from datasets.schemas import Field, Schema
from datasets.sources import Arrays, Stream

NUM_BOARDS = 10_500
SIZE = 9  # side of the published boards
_CHUNK = 4096  # boards that are completed at once

# Config -> archive, and the split of each of its files.
_ARCHIVES = {
    "satnet": "http://powei.tw/sudoku.zip",
    "rrn": "https://www.dropbox.com/s/rp3hbjs91xiqdgc/sudoku-hard.zip?dl=1",
}
_FILES = {
    "satnet": {"train": ("features.pt", "labels.pt")},
    "rrn": {"train": ("train.csv",), "valid": ("valid.csv",), "test": ("test.csv",)},
}
# Config -> side and numbers of givens.
_DRAWN = {
    "procedural": (9, (31, 42)),
    "procedural_hard": (9, (17, 34)),
    "procedural_6x6": (6, (15, 20)),
    "procedural_6x6_hard": (6, (10, 14)),
    "procedural_4x4": (4, (7, 10)),
    "procedural_4x4_hard": (4, (4, 6)),
}


def _schema(name: str, size: int) -> Schema:
    field = Field((size, size), "uint8")
    return Schema(
        name=f"sudoku/{name}",
        image=(size, size, 0),  # there are no pictures
        num_entities=0,
        attributes=tuple((name, field) for name in ("puzzle", "solution", "given", "singles")),
    )


class Sudoku(MultiObjectBuilder):
    """Boards with one solution; `singles` is what constraint propagation alone fills in."""

    VERSION = tfds.core.Version("1.0.0")
    SUBSTITUTE = ", or use the variant :procedural, which draws other boards"
    BUILDER_CONFIGS = (
        Variant(name="satnet", description="31 to 42 givens.", schema=_schema("satnet", SIZE)),
        Variant(name="rrn", description="17 to 34 givens.", schema=_schema("rrn", SIZE)),
        *(
            Variant(
                name=name,
                description=f"{size}x{size}, {givens[0]} to {givens[1]} givens.",
                schema=_schema(name, size),
                draw=functools.partial(boards.batch, size=size, givens=givens),
                num_scenes=NUM_BOARDS,
                batch=1024,
            )
            for name, (size, givens) in _DRAWN.items()
        ),
    )

    def features(self) -> tfds.features.FeaturesDict:
        """The fields of a record, all `[n, n]`."""
        return tensors(dict(self.builder_config.schema.attributes))

    def num_records(self) -> int:
        return max(split.num_examples for split in self.info.splits.values())

    @property
    def _url(self) -> str:
        return _ARCHIVES[self.builder_config.name]

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if self.builder_config.draw is not None:
            return super()._split_generators(dl_manager)
        contents, size = {}, 0
        for split, names in _FILES[self.builder_config.name].items():
            contents[split] = {name: self._content(name, dl_manager) for name in names}
            size += sum(map(len, contents[split].values()))
        name = f"{self.name}/{self.builder_config.name}"
        origin = {"name": name, "bytes": size, "asked": self.source.max_records}
        return {split: self._stream(files, origin) for split, files in contents.items()}

    def changed(self, origin: Mapping[str, Any], raw_dir: Path) -> str:
        names = [n for files in _FILES[self.builder_config.name].values() for n in files]
        paths = [sources.in_raw_dir(raw_dir, self._place(name)) for name in names]
        if None in paths:
            return ""
        size = sum(path.stat().st_size for path in paths)
        if size == origin["bytes"]:
            return ""
        return f"made from {origin['bytes']} bytes, {raw_dir} has {size}"

    def _place(self, name: str) -> str:
        """The path of a published file in its archive."""
        return f"{Path(self._url.partition('?')[0]).stem}/{name}"

    def _content(self, name: str, dl_manager: tfds.download.DownloadManager) -> bytes:
        if self.source.raw_dir is not None:
            path = sources.in_raw_dir(self.source.raw_dir, self._place(name))
            if path is not None:
                return path.read_bytes()
        url = self._url if self.source.raw_dir is None else self._url.partition("?")[0]
        archive = sources.find_or_download(self.name, url, self.source, dl_manager, self.SUBSTITUTE)
        try:
            with zipfile.ZipFile(archive) as content:
                return content.read(self._place(name))
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise DamagedFileError(
                f"{archive}: holds no {self._place(name)} ({error}); get it again"
            ) from error

    def _stream(self, files: Mapping[str, bytes], origin: dict[str, Any]) -> Stream:
        done, count = 0, 1

        def examples() -> Iterator[Arrays]:
            nonlocal done, count
            puzzle, solution = read_satnet(files) if len(files) > 1 else read_rrn(files)
            check(puzzle, solution, next(iter(files)))
            count = min(len(puzzle), self.source.max_records or len(puzzle))
            for start in range(0, count, _CHUNK):
                some = slice(start, min(start + _CHUNK, count))
                arrays = boards.record(puzzle[some], solution[some], SIZE)
                for i in range(some.stop - some.start):
                    yield {name: values[i] for name, values in arrays.items()}
                    done += 1

        return Stream(examples(), lambda: done / count, origin)


def read_satnet(files: Mapping[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Puzzles and solutions `[N, 81]` of "features.pt" and "labels.pt", `[N, 9, 9, 9]`, one-hot.

    Raises:
      DamagedFileError: they are no such tensors.
    """
    found = []
    for name, content in files.items():
        hot = torch_tensor.read(content, name)
        if hot.shape[1:] != (SIZE,) * 3 or not np.isin(hot, (0, 1)).all():
            raise DamagedFileError(
                f"{name}: a tensor {hot.shape}, expected {('N', 9, 9, 9)}, 0 or 1"
            )
        hot = hot.reshape(len(hot), SIZE**2, SIZE) > 0
        if (hot.sum(axis=2) > 1).any():
            raise DamagedFileError(f"{name}: a cell has two digits")
        found.append(np.where(hot.any(axis=2), hot.argmax(axis=2) + 1, 0))
    if found[0].shape != found[1].shape:
        raise DamagedFileError(
            f"labels.pt: {len(found[1])} boards, features.pt has {len(found[0])}"
        )
    return found[0], found[1]


def read_rrn(files: Mapping[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Puzzles and solutions `[N, 81]` of a csv file: 81 digits, a comma, 81 digits; 0 is blank.

    Raises:
      DamagedFileError: a line is another.
    """
    ((name, content),) = files.items()
    lines = content.split()
    for number, line in enumerate(lines, 1):
        puzzle, comma, solution = line.partition(b",")
        if not (
            len(puzzle) == len(solution) == SIZE**2 and (puzzle + solution).isdigit() and comma
        ):
            raise DamagedFileError(f"{name}: line {number} is no puzzle and its solution")
    digits = np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), 2 * SIZE**2 + 1) - ord(
        "0"
    )
    return digits[:, : SIZE**2], digits[:, SIZE**2 + 1 :]


def check(puzzle: np.ndarray, solution: np.ndarray, name: str) -> None:
    """Refuses boards `[N, 81]` whose solution breaks a rule or disagrees with a given.

    Raises:
      DamagedFileError: naming the board.
    """
    wrong = ~boards.is_solution(solution, SIZE) | ((puzzle > 0) & (puzzle != solution)).any(axis=1)
    if wrong.any():
        raise DamagedFileError(f"{name}: board {np.argmax(wrong) + 1} has a wrong solution")
