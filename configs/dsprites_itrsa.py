"""ItrSA on Multi-dSprites, colored on grayscale, a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/dsprites_itrsa.py
    python launch.py --config=configs/dsprites_itrsa.py:procedural  # on procedural data

Published, on the original data (%, mean ± std over seeds): FG-ARI 68.1 ± 1.4, mBO 63.0 ± 1.2.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = akorn.contrastive_discovery(
        "multi_dsprites:akorn", size=64, procedural="procedural" in chosen
    )
    config.num_steps = 11_750
    config.model = fields.model("itrsa", channels=128, patch_size=4, image_size=64)
    return config
