"""GENESIS-V2 on Multi-dSprites, colored on colored.

    python launch.py --config=configs/dsprites_genesis_v2.py
    python launch.py --config=configs/dsprites_genesis_v2.py:procedural        # on procedural data
    python launch.py --config=configs/dsprites_genesis_v2.py:small,procedural  # minutes on a CPU
    python launch.py --config=configs/dsprites_genesis_v2.py --mode=sample     # scenes of the prior

The data are as the authors' code reads them; their paper (arXiv 2104.09958) reports nothing on this
set. 500,000 steps of 32 images, Adam at 1e-4, GECO with a goal of 0.5655 per pixel and channel.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import genesis_v2


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, genesis_v2.VARIANTS)
    config = genesis_v2.discovery(
        "multi_dsprites:genesis", chosen, goal=0.5655, image_size=64, num_slots=6
    )
    if "small" in chosen:
        config.data.max_objects = 3
        config.data.max_records = 12_000
        config.model.num_slots = 4
    return config
