"""GNM on Multi-dSprites, coloured sprites on grey; a recipe of ours, no paper's.

    python launch.py --config=configs/dsprites_gnm.py
    python launch.py --config=configs/dsprites_gnm.py:procedural        # on procedural data
    python launch.py --config=configs/dsprites_gnm.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/dsprites_gnm.py --mode=sample     # scenes of the prior

As on CLEVR (configs/clevr_gnm.py), but for images of 64 x 64 pixels: the last two layers of the
encoder are left out, and one of each decoder.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import gnm


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, gnm.VARIANTS)
    return gnm.scenes(
        "multi_dsprites:akorn",
        chosen,
        std=0.2,
        image_size=64,
        encoder_channels=(16, 16, 32, 32, 64, 64, 128),
        encoder_strides=(2, 1, 2, 1, 2, 1, 2),
        glimpse_channels=(64, 32, 16, 8),
        background_channels=(128, 64, 32, 16),
        background_upscales=(4, 2, 4, 2),
    )
