"""AKOrN on Sudoku (arXiv 2410.13821, sec. 5.2).

    python launch.py --config=configs/sudoku_akorn.py --config.data.raw_dir=DIR
    python launch.py --config=configs/sudoku_akorn.py:procedural  # on synthetic boards
    python launch.py --config=configs/sudoku_akorn.py:small       # 4x4, minutes on a CPU
    python launch.py --config=configs/sudoku_akorn.py:small6      # 6x6, :small9 9x9

DIR holds SATNet's features.pt and labels.pt (see datasets/sudoku.py). Published, boards completed
(%, mean ± std over seeds):

    | test        | SATNet, as trained | RRN, fewer givens |
    | T = 128     | 100.0 ± 0.0 | 51.7 ± 3.3 |
    | and K = 100 | 100.0 ± 0.0 | 81.6 ± 1.5 |
    | or 4,096    | 100.0 ± 0.0 | 89.5 ± 2.5 |

T is `--config.eval.options.num_steps=128`, which this recipe sets, K random starts of which that of
least energy is taken `--config.eval.num_starts=100`. RRN: `--config.eval.datasets=sudoku/rrn`.

Measured here, on synthetic boards: docs/results/sudoku.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import sudoku


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, sudoku.VARIANTS)
    return sudoku.boards(
        "akorn_sudoku",
        chosen,
        1e-3,
        test_steps=128,
        num_steps=16,
        use_omega=True,
        global_omega=True,
        init_omega=0.5,
        learn_omega=True,
    )
