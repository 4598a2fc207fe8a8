"""SPAIR on Tetrominoes; a recipe of ours, no paper's (configs/clevr_spair.py is).

    python launch.py --config=configs/tetrominoes_spair.py
    python launch.py --config=configs/tetrominoes_spair.py:procedural        # on procedural data
    python launch.py --config=configs/tetrominoes_spair.py:small,procedural  # minutes on a CPU core

The pieces lie on black, as the digits of SPAIR's own paper do, so there is no background to learn.
Cells of 8 pixels in images of 32, and boxes about as large as a piece; otherwise as on CLEVR.
docs/results/spair.md has what was measured.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import spair


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, spair.VARIANTS)
    config = spair.scenes(
        "tetrominoes:akorn",
        chosen,
        background_size=0,
        sigma=0.15,
        presence_prior=spair.linear(0.99, 0.1, 10_000),
        steps_per_epoch=469,
    )
    if "small" not in chosen:
        config.model.image_size = 32
        config.model.backbone_channels = (32, 64, 128)
        config.model.backbone_groups = (8, 8, 16)
        config.model.glimpse_size = 12
    config.model.anchor_size = 24
    config.model.size_prior = (0.0, 0.5)  # half the anchor
    return config
