"""ItrSA on CLEVR6 (CLEVR with masks, at most 6 objects), a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/clevr_itrsa.py
    python launch.py --config=configs/clevr_itrsa.py:procedural  # on procedural data

Published, on the original data (%, mean ± std over seeds): FG-ARI 82.5 ± 1.7, mBO 39.4 ± 1.9.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = akorn.contrastive_discovery(
        "clevr6:akorn", size=128, procedural="procedural" in chosen
    )
    config.num_steps = 47_000
    config.model = fields.model("itrsa", channels=256, patch_size=8, image_size=128)
    return config
