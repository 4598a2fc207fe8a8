"""GNM on Multi-dSprites: coloured sprites on grey, no paper's (configs/clevr_gnm.py is).

python launch.py --config=configs/dsprites_gnm.py:small,procedural
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import gnm


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, gnm.VARIANTS)
    config = gnm.scenes("multi_dsprites:akorn", chosen, std=0.2)
    if "small" in chosen:
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
    return config
