"""ItrSA on Tetrominoes, a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/tetrominoes_itrsa.py
    python launch.py --config=configs/tetrominoes_itrsa.py:procedural  # on drawn data

Published, on the original data (%, mean ± std over seeds): FG-ARI 85.8 ± 0.8, mBO 54.9 ± 3.4.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "") -> ConfigDict:
    chosen = base.choose(variant, ("procedural",))
    config = base.contrastive_discovery(
        "tetrominoes:akorn", size=32, procedural="procedural" in chosen
    )
    config.num_steps = 11_750
    config.model = base.fields("models", "itrsa", channels=128, patch_size=4, image_size=32)
    return config
