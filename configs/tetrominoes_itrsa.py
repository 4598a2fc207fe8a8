"""ItrSA on Tetrominoes, a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/tetrominoes_itrsa.py
    python launch.py --config=configs/tetrominoes_itrsa.py:procedural  # on procedural data

Published, on the original data (%, mean ± std over seeds): FG-ARI 85.8 ± 0.8, mBO 54.9 ± 3.4.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = akorn.contrastive_discovery(
        "tetrominoes:akorn", size=32, procedural="procedural" in chosen
    )
    config.num_steps = 11_750
    config.model = fields.model("itrsa", channels=128, patch_size=4, image_size=32)
    return config
