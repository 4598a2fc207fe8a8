"""GNM on ClevrTex, as its authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevrtex_gnm.py
    python launch.py --config=configs/clevrtex_gnm.py:procedural        # on procedural data
    python launch.py --config=configs/clevrtex_gnm.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/clevrtex_gnm.py --mode=sample     # scenes of the prior

Published: to be read off the paper; 300,000 steps of 32 images. As on CLEVR
(configs/clevr_gnm.py), but for the deviation of a pixel, `config.model.std`, of 0.5.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import gnm


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, gnm.VARIANTS)
    config = gnm.scenes("clevrtex_full:clevrtex", chosen, std=0.5)
    if "small" in chosen:
        gnm.shrink_solids(config, std=0.05)
    return config
