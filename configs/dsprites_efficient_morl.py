"""Efficient MORL on Multi-dSprites, coloured on grey (arXiv 2106.03849).

python launch.py --config=configs/dsprites_efficient_morl.py
python launch.py --config=configs/dsprites_efficient_morl.py:procedural  # on procedural data
python launch.py --config=configs/dsprites_efficient_morl.py:small,procedural  # minutes on a CPU

Published, on the original data (FG-ARI in %, mean ± std over five seeds; arXiv 2106.03849,
table 1): 91.2 ± 0.4.

This is the ClevrTex benchmark's network and optimizer (configs/clevr_efficient_morl.py) at the size
and number of slots of this set, with GECO's goal per pixel.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import efficient_morl


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, efficient_morl.VARIANTS)
    return efficient_morl.discovery("multi_dsprites:iodine", chosen, image_size=64, num_slots=6)
