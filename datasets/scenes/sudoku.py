"""Sudoku boards with exactly one solution, drawn with given numbers of givens.

A set of candidates is the bits of an integer, bit d - 1 for digit d; boards are `[N, n n]`, row by
row, and all boards of a batch are solved at once. What is random depends on the seed and the
board's index alone.
"""

import functools
from collections.abc import Iterable

import numpy as np

from datasets.scenes import random

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # rows and columns of a box, by the board's side

# Boards of 17 givens, the fewest that a 9x9 board can have (McGuire et al. 2012): some of
# Gordon Royle's collection. Taking givens away at random does not lead to boards of so few.
FEWEST = 17
SPARSE = (
    "000000010400000000020000000000050407008000300001090000300400200050100000000806000",
    "000000010400000000020000000000050604008000300001090000300400200050100000000807000",
    "000000012000035000000600070700000300000400800100000000000120000080000040050000600",
    "000000012003600000000007000410020000000500300700000600280000040000300500000000000",
    "000000012008030000000000040120500000000004700060000000507000300000620000000100000",
    "000000012040050000000009000070600400000100000000000050000087500601000300200000000",
    "000000012050400000000000030700600400001000000000080000920000800000510700000003000",
    "000000012300000060000040000900000500000001070020000000000350400001400800060000000",
    "000000012400090000000000050070200000600000400000108000018000000000030700502000000",
    "000000012500008000000700000600120000700000450000030000030000800000500700020000000",
    "000000012800040000000000060090200000700000400000501000015000000000030900602000000",
)
DIGGABLE = 24  # givens, at least, to which taking them away at random leads
# What a draw is for, the first counter after the board's index.
_TARGET, _CELL, _DIGIT, _ORDER, _KIND, _SHUFFLE = range(6)


def batch(
    seed: int, index: np.ndarray, *, size: int, givens: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Boards `index` of the endless set `seed`, all fields uint8 `[N, n, n]`.

    The number of givens is uniform. Boards of `DIGGABLE` givens or more are random full boards
    from which digits are taken away in random order as long as the solution stays the only one;
    a board that cannot be brought down to its number is drawn anew. Those of 9x9 with fewer are
    boards of `SPARSE`, with random digits of the solution added, under a random symmetry of the
    rules.

    Args:
        seed: of the set.
        index: `[N]`.
        size: n, the side: 4, 6 or 9.
        givens: the fewest and the most.

    Returns:
        puzzle: 0 where a digit is missing.
        solution: digits from 1 on.
        given: 1 where the puzzle has a digit.
        singles: as `singles`.
    """
    low, high = givens
    target = low + random.integers(high - low + 1, seed, index, _TARGET)
    solution = np.zeros((len(index), size * size), np.uint16)
    given = np.zeros(solution.shape, bool)
    sparse = (target < DIGGABLE) & (size == 9)
    if sparse.any():
        solution[sparse], given[sparse] = _from_sparse(seed, index[sparse], target[sparse])
    left, attempt = np.flatnonzero(~sparse), 0
    while len(left):
        full = _fill(seed, index[left], attempt, size)
        order = np.argsort(
            random.bits(seed, index[left, None], _ORDER, attempt, np.arange(size**2)), axis=1
        )
        kept = _dig(full, target[left], order, size)
        done = kept.sum(axis=1) == target[left]
        solution[left[done]], given[left[done]] = full[done], kept[done]
        left, attempt = left[~done], attempt + 1
    return record(np.where(given, digits(solution), 0), digits(solution), size)


def record(puzzle: np.ndarray, solution: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The fields of `batch`, of boards `[N, n n]`."""
    found = {
        "puzzle": puzzle,
        "solution": solution,
        "given": puzzle > 0,
        "singles": singles(puzzle, size),
    }
    return {name: a.astype(np.uint8).reshape(-1, size, size) for name, a in found.items()}


def singles(puzzle: np.ndarray, size: int) -> np.ndarray:
    """Boards `[N, n n]` as far as they follow without a guess; 0 where nothing follows.

    A digit follows where a cell can hold no other, or where no other cell of a row, column or box
    can hold it ("naked" and "hidden" singles), over and over.
    """
    return digits(propagate(candidates(puzzle, size), size))


def solve(boards: np.ndarray, size: int) -> np.ndarray:
    """A solution of boards of candidates `[N, n n]`, as candidates; all 0 where there is none.

    Where propagation ends, the cell with the fewest candidates either has its lowest or has not.
    """
    found, owner = np.zeros_like(boards), np.arange(len(boards))
    while len(boards):
        boards = propagate(boards, size)
        count = np.bitwise_count(boards)
        solved = (count == 1).all(axis=1)
        found[owner[solved]] = boards[solved]
        open_ = np.flatnonzero((count > 0).all(axis=1) & (found[owner, 0] == 0))
        boards, owner, count = boards[open_], owner[open_], count[open_]
        rows, cell = np.arange(len(boards)), np.argmin(np.where(count > 1, count, 99), axis=1)
        lowest = boards[rows, cell] & -boards[rows, cell]
        has, has_not = boards.copy(), boards
        has[rows, cell] = lowest
        has_not[rows, cell] &= ~lowest
        boards, owner = np.concatenate([has, has_not]), np.concatenate([owner, owner])
    return found


def propagate(boards: np.ndarray, size: int) -> np.ndarray:
    """Candidates `[N, n n]` after all singles; all 0 where they contradict each other."""
    every, rest = (1 << size) - 1, np.arange(len(boards))
    boards, units, of = boards.copy(), _units(size), _units_of(size)
    while len(rest):
        before = boards[rest]
        single = np.bitwise_count(before) == 1
        fixed, clash = _once_and_twice(np.where(single, before, 0), units)
        seen = fixed[:, of[0]] | fixed[:, of[1]] | fixed[:, of[2]]
        after = np.where(single, before, before & ~seen)
        once, twice = _once_and_twice(after, units)
        lone = once & ~twice
        hidden = after & (lone[:, of[0]] | lone[:, of[1]] | lone[:, of[2]])
        after = np.where(hidden > 0, hidden, after)
        wrong = (clash > 0) | (once != every)
        after[wrong.any(axis=1) | (np.bitwise_count(hidden) > 1).any(axis=1)] = 0
        boards[rest] = after
        rest = rest[(after != before).any(axis=1)]
    return boards


def candidates(puzzle: np.ndarray, size: int) -> np.ndarray:
    """Digits, 0 where unknown, as candidates."""
    digit = puzzle.astype(np.uint16)
    return np.where(digit > 0, 1 << np.maximum(digit, 1) - 1, (1 << size) - 1).astype(np.uint16)


def digits(boards: np.ndarray) -> np.ndarray:
    """Candidates as digits, 0 where there is not exactly one."""
    return np.where(np.bitwise_count(boards) == 1, np.bitwise_count(boards - 1) + 1, 0)


def is_solution(boards: np.ndarray, size: int) -> np.ndarray:
    """Whether rows, columns and boxes of boards of digits `[N, n n]` hold every digit, `[N]`."""
    return (np.sort(boards[:, _units(size)], axis=2) == np.arange(1, size + 1)).all(axis=(1, 2))


def _fill(seed: int, index: np.ndarray, attempt: int, size: int) -> np.ndarray:
    """Random full boards, as candidates: random digits where the fewest are possible.

    After a contradiction a board starts over.
    """
    full = np.full((len(index), size * size), (1 << size) - 1, np.uint16)
    left, restarts, steps = np.arange(len(index)), np.zeros_like(index), np.zeros_like(index)
    while len(left):
        boards = full[left]
        here, again = index[left], restarts[left]
        jitter = random.uniform(
            seed, here[:, None], _CELL, attempt, again[:, None], np.arange(size**2)
        )
        count = np.bitwise_count(boards)
        rows, cell = (
            np.arange(len(left)),
            np.argmin(np.where(count > 1, count + jitter, 99), axis=1),
        )
        bits = (boards[rows, cell, None] >> np.arange(size)) & 1
        place = random.integers(bits.sum(axis=1), seed, here, _DIGIT, attempt, again, steps[left])
        digit = np.argmax(np.cumsum(bits, axis=1) == place[:, None] + 1, axis=1)
        boards[rows, cell] = 1 << digit
        boards = propagate(boards, size)
        dead = (boards == 0).all(axis=1)
        full[left] = np.where(dead[:, None], (1 << size) - 1, boards)
        restarts[left] += dead
        steps[left] = np.where(dead, 0, steps[left] + 1)
        left = left[dead | (np.bitwise_count(boards) > 1).any(axis=1)]
    return full


def _dig(full: np.ndarray, target: np.ndarray, order: np.ndarray, size: int) -> np.ndarray:
    """Which cells of full boards stay given, `[N, n n]`: `target` of them, or more if need be."""
    given = np.ones(full.shape, bool)
    for cells in order.T:
        rows = np.flatnonzero(given.sum(axis=1) > target)
        if not len(rows):
            break
        cell, every = cells[rows], (1 << size) - 1
        boards = np.where(given[rows], full[rows], every).astype(np.uint16)
        boards[np.arange(len(rows)), cell] = every & ~full[rows, cell]
        others = (solve(boards, size) > 0).any(axis=1)  # solutions, were this cell not given
        given[rows[~others], cell[~others]] = False
    return given


def _from_sparse(seed: int, index: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Full boards as candidates, and which cells are given, both `[N, 81]`."""
    puzzles, solutions = _sparse()
    kind = random.integers(len(SPARSE), seed, index, _KIND)
    cells = _symmetry(seed, index)
    relabel = np.argsort(random.bits(seed, index[:, None], _SHUFFLE, 0, np.arange(9)), axis=1)
    solution = np.take_along_axis(solutions[kind], cells, axis=1)
    given = np.take_along_axis(puzzles[kind], cells, axis=1) > 0
    # The givens first, then other cells in random order.
    order = random.uniform(seed, index[:, None], _ORDER, np.arange(81)) - given
    given = np.argsort(np.argsort(order, axis=1), axis=1) < target[:, None]
    return (1 << np.take_along_axis(relabel, solution - 1, axis=1)).astype(np.uint16), given


def _symmetry(seed: int, index: np.ndarray) -> np.ndarray:
    """For each board, where its cells come from, `[N, 81]`.

    Bands, the rows of a band, and likewise columns change places, and half of the boards are
    transposed.
    """

    def lines(axis: int) -> np.ndarray:
        key = random.bits(seed, index[:, None], _SHUFFLE, axis, np.arange(12))
        bands = np.argsort(key[:, :3], axis=1)
        within = np.argsort(key[:, 3:].reshape(-1, 3, 3), axis=2)
        return (3 * bands[:, :, None] + within).reshape(-1, 9)

    cells = 9 * lines(1)[:, :, None] + lines(2)[:, None]
    turn = random.bits(seed, index, _SHUFFLE, 3) % np.uint64(2) == 1
    return np.where(turn[:, None, None], cells.swapaxes(1, 2), cells).reshape(-1, 81)


@functools.cache
def _sparse() -> tuple[np.ndarray, np.ndarray]:
    """The boards of `SPARSE` and their solutions, digits `[M, 81]`."""
    puzzles = parse(SPARSE)
    return puzzles, digits(solve(candidates(puzzles, 9), 9))


def parse(lines: Iterable[str]) -> np.ndarray:
    """Boards written as digits, row by row, `[N, n n]`."""
    return np.array([list(line) for line in lines]).astype(np.int64)


def _once_and_twice(boards: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each unit, the digits that are candidates of a cell at least, and of two at least."""
    once = np.zeros((len(boards), len(units)), np.uint16)
    twice = once.copy()
    for cells in units.T:
        here = boards[:, cells]
        twice |= once & here
        once |= here
    return once, twice


@functools.cache
def _units(size: int) -> np.ndarray:
    """The cells of all rows, columns and boxes, `[3 n, n]`."""
    height, width = BOXES[size]
    cells = np.arange(size * size).reshape(size, size)
    boxes = cells.reshape(size // height, height, size // width, width).swapaxes(1, 2)
    return np.concatenate([cells, cells.T, boxes.reshape(size, size)])


@functools.cache
def _units_of(size: int) -> np.ndarray:
    """Row, column and box of each cell, `[3, n n]`, as places in `_units`."""
    units = _units(size)
    return np.stack(
        [np.argsort(part.ravel()) // size + i * size for i, part in enumerate(np.split(units, 3))]
    )
