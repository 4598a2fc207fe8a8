"""SPAIR on Multi-dSprites: coloured sprites on grey, no paper's (configs/clevr_spair.py is).

    python launch.py --config=configs/dsprites_spair.py
    python launch.py --config=configs/dsprites_spair.py:procedural        # on procedural data
    python launch.py --config=configs/dsprites_spair.py:small,procedural  # minutes on a CPU core

Cells of 16 pixels in images of 64; otherwise as on CLEVR.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import spair


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, spair.VARIANTS)
    config = spair.scenes(
        "multi_dsprites:akorn",
        chosen,
        background_size=1,
        sigma=0.15,
        presence_prior=spair.linear(1e-4, 0.99, 10_000),
        steps_per_epoch=469,
    )
    if "small" not in chosen:
        config.model.image_size = 64
        config.model.backbone_channels = (16, 32, 64, 128)
        config.model.backbone_groups = (4, 8, 8, 16)
        config.model.anchor_size = 24
    else:
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
    return config
