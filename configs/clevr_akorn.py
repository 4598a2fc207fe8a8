"""AKOrN on CLEVR6, CLEVR with masks of at most 6 objects (arXiv 2410.13821).

    python launch.py --config=configs/clevr_akorn.py             # attentive
    python launch.py --config=configs/clevr_akorn.py:conv        # convolutional, kernel 7
    python launch.py --config=configs/clevr_akorn.py:procedural  # on procedural data
    python launch.py --config=configs/clevr_akorn.py:npz         # on the official npz files

Published, on the original data (%, mean ± std over seeds):

    | variant                | FG-ARI     | mBO        |
    | attentive              | 91.0 ± 0.5 | 45.5 ± 1.4 |
    | attentive, up-tiling 4 | 94.6 ± 0.7 | 44.7 ± 0.7 |
    | convolutional          | 59.0 ± 4.3 | 44.4 ± 2.0 |

Up-tiling: --config.eval.up_tiling=4. 300 epochs of the about 40,000 scenes of CLEVR6 are
about 47,000 steps.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("conv", "procedural", "npz"))
    config = akorn.contrastive_discovery(
        "clevr6:akorn", size=128, procedural="procedural" in chosen, npz="npz" in chosen
    )
    config.num_steps = 47_000
    config.model = fields.model(
        "akorn", channels=256, patch_size=8, image_size=128, autorescale=False
    )
    if "conv" in chosen:
        config.model.connectivity = "conv"
        config.model.kernel_size = 7
    return config
