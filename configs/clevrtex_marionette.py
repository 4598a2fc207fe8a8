"""MarioNette on ClevrTex, as its authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevrtex_marionette.py
    python launch.py --config=configs/clevrtex_marionette.py:procedural        # on procedural data
    python launch.py --config=configs/clevrtex_marionette.py:small,procedural  # minutes on a core

As configs/clevr_marionette.py, with eight backgrounds to mix, since the ground differs between
images; how many the published run had is not recorded. Scores are to be read off the paper.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import marionette


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, marionette.VARIANTS)
    config = marionette.discovery("clevrtex_full:clevrtex", chosen, num_backgrounds=8)
    config.eval.datasets = "clevrtex/outd,clevrtex/camo"
    if "small" in chosen:
        marionette.shrink_clevr(config)
    return config
