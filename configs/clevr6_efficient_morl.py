"""Efficient MORL on CLEVR6, CLEVR with masks of at most 6 objects (arXiv 2106.03849).

python launch.py --config=configs/clevr6_efficient_morl.py
python launch.py --config=configs/clevr6_efficient_morl.py:procedural  # on procedural data
python launch.py --config=configs/clevr6_efficient_morl.py:small,procedural  # minutes on a CPU

Published, on the original data (FG-ARI in %, mean ± std over five seeds; arXiv 2106.03849,
table 1): 96.2 ± 1.6, with 96 x 96 pixels.

This is the ClevrTex benchmark's network and optimizer (configs/clevr_efficient_morl.py) at the size
and number of slots of this set, with GECO's goal per pixel.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import efficient_morl


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, efficient_morl.VARIANTS)
    return efficient_morl.discovery("clevr6:efficient_morl", chosen, image_size=96, num_slots=7)
