"""MarioNette on CLEVR with masks, as ClevrTex's authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevr_marionette.py
    python launch.py --config=configs/clevr_marionette.py:procedural        # on procedural data
    python launch.py --config=configs/clevr_marionette.py:small,procedural  # minutes on a CPU core

Two layers of 8 x 8 sprites from a dictionary of 150, one background for all images; 200,000 steps
of 8 images on one GPU. The release does not record its command; it cannot have been the default,
whose background codes are too short for their norm. Scores are to be read off the paper.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import marionette


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, marionette.VARIANTS)
    config = marionette.discovery("clevr10:clevrtex", chosen)
    if "small" in chosen:
        marionette.shrink_clevr(config)
    return config
