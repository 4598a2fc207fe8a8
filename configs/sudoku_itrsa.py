"""ItrSA on Sudoku, a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/sudoku_itrsa.py --config.data.raw_dir=DIR
    python launch.py --config=configs/sudoku_itrsa.py:procedural  # on synthetic boards
    python launch.py --config=configs/sudoku_itrsa.py:small       # 4x4, minutes on a CPU
    python launch.py --config=configs/sudoku_itrsa.py:small6      # 6x6, :small9 9x9

DIR holds SATNet's features.pt and labels.pt (see datasets/sudoku.py). Published, boards completed
(%, mean ± std over seeds):

    | test   | SATNet, as trained | RRN, fewer givens |
    | T = 32 | 95.7 ± 8.5 | 34.4 ± 5.4 |

T is `--config.eval.options.num_steps=32`, which this recipe sets. RRN:
`--config.eval.datasets=sudoku/rrn`.

Measured here, on synthetic boards: docs/results/sudoku.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import sudoku


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, sudoku.VARIANTS)
    return sudoku.boards("itrsa_sudoku", chosen, 5e-4, test_steps=32, num_steps=16)
