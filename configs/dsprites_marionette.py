"""MarioNette on Multi-dSprites: not an experiment of its paper, which decomposes games.

    python launch.py --config=configs/dsprites_marionette.py
    python launch.py --config=configs/dsprites_marionette.py:procedural        # on procedural data
    python launch.py --config=configs/dsprites_marionette.py:small,procedural  # minutes on a core

Coloured sprites on grey, 64 x 64 pixels; backgrounds of all greys are mixed of eight.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import marionette


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, marionette.VARIANTS)
    config = marionette.discovery(
        "multi_dsprites:slot_attention", chosen, image_size=64, grid_size=4, num_backgrounds=8
    )
    if "small" in chosen:
        marionette.shrink(config, num_steps=1500)
        config.data.test = (0, 320)
        config.data.train = (320, 12_000)
        config.data.max_records = 12_000
    return config
