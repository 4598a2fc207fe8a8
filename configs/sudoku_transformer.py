"""A transformer of 8 blocks on Sudoku, a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/sudoku_transformer.py --config.data.raw_dir=DIR
    python launch.py --config=configs/sudoku_transformer.py:procedural  # on synthetic boards
    python launch.py --config=configs/sudoku_transformer.py:small       # 4x4, minutes on a CPU
    python launch.py --config=configs/sudoku_transformer.py:small6      # 6x6, :small9 9x9

DIR holds SATNet's features.pt and labels.pt (see datasets/sudoku.py). Published, boards completed
(%, mean ± std over seeds):

SATNet's boards, as trained, 98.6 ± 0.3; RRN's, with fewer givens, 5.2 ± 0.2
(`--config.eval.datasets=sudoku/rrn`).

Measured here, on synthetic boards: docs/results/sudoku.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import sudoku


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, sudoku.VARIANTS)
    return sudoku.boards("itrsa_sudoku", chosen, 5e-4, test_steps=1, num_layers=8, num_steps=1)
