"""SPACE on CLEVR with masks, as ClevrTex's authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevr_space.py
    python launch.py --config=configs/clevr_space.py:procedural        # on procedural data
    python launch.py --config=configs/clevr_space.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/clevr_space.py --mode=sample     # backgrounds of the prior

Published: to be read off the paper; 160,000 steps of 16 images.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import space


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, space.VARIANTS)
    return space.scenes("clevr10:clevrtex", chosen)
