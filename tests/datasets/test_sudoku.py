"""Synthetic boards have one solution and the givens asked for; published files give their own."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets import sudoku, torch_tensor
from datasets.errors import DamagedFileError, DatasetError
from datasets.prepare import prepare
from datasets.scenes import sudoku as boards

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sudoku"  # by PyTorch 2.13, of `boards.batch`
KINDS = ("zipped", "in_a_row")


def solutions(puzzle, size, limit=2):
    """Solutions of a board `[n, n]`, up to a limit, by plain backtracking."""
    height, width = boards.BOXES[size]
    grid, found = puzzle.astype(int).copy(), []

    def possible(i, j):
        top, left = i // height * height, j // width * width
        box = grid[top : top + height, left : left + width]
        return set(range(1, size + 1)) - {*grid[i], *grid[:, j], *box.ravel()}

    def search():
        blanks = [(len(possible(i, j)), i, j) for i, j in np.argwhere(grid == 0)]
        if not blanks:
            found.append(grid.copy())
            return
        _, i, j = min(blanks)
        for digit in possible(i, j):
            grid[i, j] = digit
            if len(found) < limit:
                search()
            grid[i, j] = 0

    search()
    return found


@pytest.mark.parametrize("name", sudoku._DRAWN)
def test_drawn_boards_have_one_solution(name):
    size, (low, high) = sudoku._DRAWN[name]
    arrays = boards.batch(1, np.arange(40), size=size, givens=(low, high))
    count = arrays["given"].sum(axis=(1, 2))
    assert low <= count.min() <= low + 2
    assert high - 2 <= count.max() <= high
    for i in np.argsort(-count)[:6]:  # of boards with few givens backtracking takes minutes
        (only,) = solutions(arrays["puzzle"][i], size)
        np.testing.assert_array_equal(only, arrays["solution"][i])
    np.testing.assert_array_equal(arrays["given"], arrays["puzzle"] > 0)
    filled = arrays["singles"] > 0
    assert (filled >= arrays["given"]).all()
    np.testing.assert_array_equal(arrays["singles"][filled], arrays["solution"][filled])
    assert len({board.tobytes() for board in arrays["solution"]}) > 25


def test_a_board_depends_on_its_seed_and_index_alone():
    draw = sudoku.Sudoku.builder_configs["procedural_hard"].draw
    together = draw(7, np.arange(10, 15))
    alone = draw(7, np.array([13]))
    for field, array in alone.items():
        np.testing.assert_array_equal(array[0], together[field][3])
    assert (draw(8, np.array([13]))["solution"] != alone["solution"]).any()


def test_sparse_boards_have_the_fewest_givens_and_one_solution():
    puzzles, found = boards._sparse()
    assert ((puzzles > 0).sum(axis=1) == boards.FEWEST).all()
    assert boards.is_solution(found, 9).all()
    # No cell of any board can hold another digit than that of the solution.
    board, cell = np.nonzero(puzzles == 0)
    others = boards.candidates(puzzles, 9)[board]
    others[np.arange(len(board)), cell] &= ~boards.candidates(found, 9)[board, cell]
    assert not boards.solve(others, 9).any()
    others[0, cell[0]] = boards.candidates(found, 9)[0, cell[0]]
    np.testing.assert_array_equal(boards.digits(boards.solve(others[:1], 9))[0], found[0])


def test_singles_end_where_a_guess_is_needed():
    """A "unique rectangle": two digits may change places in four cells, and nothing follows."""
    full = boards.batch(0, np.arange(200), size=9, givens=(40, 42))["solution"].reshape(-1, 81)
    swaps = (
        (board, [9 * r + c for r in rows for c in columns])
        for board in full
        for rows in ((0, 1), (3, 4))
        for columns in ((0, 3), (1, 5), (2, 7))
        if board[9 * rows[0] + columns[0]] == board[9 * rows[1] + columns[1]]
        and board[9 * rows[0] + columns[1]] == board[9 * rows[1] + columns[0]]
    )
    board, cells = next(swaps)
    puzzle = board.copy()
    puzzle[cells] = 0
    np.testing.assert_array_equal(boards.singles(puzzle[None], 9)[0], puzzle)
    assert len(solutions(puzzle.reshape(9, 9), 9, limit=3)) == 2
    puzzle[cells[0]] = board[cells[0]]
    np.testing.assert_array_equal(boards.singles(puzzle[None], 9)[0], board)


def test_contradictions_are_seen():
    puzzle = boards.parse(["1...".replace(".", "0") * 4])
    assert not boards.propagate(boards.candidates(puzzle, 4), 4).any()
    assert not boards.solve(boards.candidates(puzzle, 4), 4).any()


def example(name):
    with np.load(FIXTURES / "boards.npz") as arrays:
        return arrays[name]


def rrn_line(puzzle, solution):
    return ",".join("".join(map(str, board.ravel())) for board in (puzzle, solution))


@pytest.mark.parametrize("kind", KINDS)
def test_satnet(tmp_path, kind):
    prepare("sudoku/satnet", tmp_path, raw_dir=FIXTURES / kind)
    source = tfds.builder("sudoku/satnet", data_dir=tmp_path).as_data_source(split="train")
    assert len(source) == 2
    for i, record in enumerate(source):
        assert record.keys() == {"puzzle", "solution", "given", "singles"}
        for name, board in record.items():
            assert board.dtype == np.uint8
            np.testing.assert_array_equal(board, example(name)[i])


def test_rrn_from_its_archive(tmp_path):
    lines = [rrn_line(*pair) for pair in zip(example("puzzle"), example("solution"), strict=True)]
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "sudoku-hard.zip", "w") as archive:
        for split, some in (("train", lines), ("valid", lines[1:]), ("test", lines[:1])):
            archive.writestr(f"sudoku-hard/{split}.csv", "\r\n".join(some) + "\n")
    prepare("sudoku/rrn", tmp_path / "data", raw_dir=raw)
    builder = tfds.builder("sudoku/rrn", data_dir=tmp_path / "data")
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 2, "valid": 1, "test": 1}
    (record,) = builder.as_data_source(split="valid")
    np.testing.assert_array_equal(record["puzzle"], example("puzzle")[1])
    np.testing.assert_array_equal(record["solution"], example("solution")[1])


def test_wrong_files_are_one_line(tmp_path):
    puzzle, solution = example("puzzle"), example("solution")
    good = rrn_line(puzzle[0], solution[0])
    for content, message in (
        (good[:-1], "t.csv: line 1 is no puzzle and its solution"),
        (f"{good}\n{good.replace(',', ';')}", "t.csv: line 2 is no puzzle"),
    ):
        with pytest.raises(DamagedFileError, match=message):
            sudoku.read_rrn({"t.csv": content.encode()})
    wrong = solution.reshape(-1, 81).copy()
    wrong[1, :2] = wrong[1, 1::-1]
    with pytest.raises(DamagedFileError, match="x: board 2 has a wrong solution"):
        sudoku.check(np.zeros_like(wrong), wrong, "x")
    other = puzzle.reshape(-1, 81).copy()
    other[0, np.argmax(other[0] > 0)] %= 9
    other[0, np.argmax(other[0] > 0)] += 1
    with pytest.raises(DamagedFileError, match="x: board 1 has a wrong solution"):
        sudoku.check(other, solution.reshape(-1, 81), "x")
    with pytest.raises(DatasetError, match=r"neither .*sudoku\.zip nor .*; get .* :procedural"):
        prepare("sudoku/satnet", tmp_path, raw_dir=tmp_path)
    (tmp_path / "sudoku.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"holds no sudoku/features\.pt"):
        prepare("sudoku/satnet", tmp_path, raw_dir=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_tensors_are_one_line(kind):
    content = (FIXTURES / kind / "features.pt").read_bytes()
    for size in range(0, len(content) - 8, 97):
        with pytest.raises(DamagedFileError, match="is no tensor that PyTorch saved"):
            torch_tensor.read(content[:size], "features.pt")


def test_pickles_run_nothing():
    content = b"cos\nsystem\n(S'true'\ntR."
    with pytest.raises(DamagedFileError, match=r"x: .*it pickles os\.system"):
        torch_tensor.read(content, "x")
