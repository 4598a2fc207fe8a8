"""SPACE on Multi-dSprites: coloured sprites on grey, no paper's (configs/clevr_space.py is).

    python launch.py --config=configs/dsprites_space.py
    python launch.py --config=configs/dsprites_space.py:procedural        # on procedural data
    python launch.py --config=configs/dsprites_space.py:small,procedural  # minutes on a CPU core

Cells of 8 pixels in images of 64; otherwise as on CLEVR.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import space


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, space.VARIANTS)
    config = space.scenes("multi_dsprites:akorn", chosen)
    if "small" in chosen:
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
    else:
        config.model.image_size = 64
    return config
