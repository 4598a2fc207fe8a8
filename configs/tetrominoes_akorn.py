"""AKOrN on Tetrominoes (arXiv 2410.13821, table of synthetic images).

    python launch.py --config=configs/tetrominoes_akorn.py             # attentive
    python launch.py --config=configs/tetrominoes_akorn.py:conv        # convolutional, kernel 5
    python launch.py --config=configs/tetrominoes_akorn.py:procedural  # on procedural data
    python launch.py --config=configs/tetrominoes_akorn.py:npz         # on the official npz files

Published, on the original data (%, mean ± std over seeds):

    | variant                | FG-ARI     | mBO        |
    | attentive              | 88.6 ± 1.7 | 56.4 ± 0.9 |
    | attentive, up-tiling 4 | 93.1 ± 0.3 | 56.3 ± 0.0 |
    | convolutional          | 76.4 ± 0.8 | 51.9 ± 1.5 |

Up-tiling: --config.eval.up_tiling=4. 50 epochs of 60,000 images are 11,719 steps; the official
loop makes a partial batch of each epoch's rest and so takes 11,750.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("conv", "procedural", "npz"))
    config = akorn.contrastive_discovery(
        "tetrominoes:akorn", size=32, procedural="procedural" in chosen, npz="npz" in chosen
    )
    config.num_steps = 11_750
    config.model = fields.model(
        "akorn", channels=128, patch_size=4, image_size=32, autorescale=False
    )
    if "conv" in chosen:
        config.model.connectivity = "conv"
        config.model.kernel_size = 5
    return config
