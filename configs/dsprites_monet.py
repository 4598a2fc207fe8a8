"""MONet on Multi-dSprites, colored on grayscale.

python launch.py --config=configs/dsprites_monet.py
python launch.py --config=configs/dsprites_monet.py:procedural        # on procedural data
python launch.py --config=configs/dsprites_monet.py:small,procedural  # minutes on a CPU
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import monet


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, monet.VARIANTS)
    return monet.discovery(
        "multi_dsprites:iodine",
        chosen,
        image_size=64,
        num_slots=6,
        num_levels=5,
        foreground_std=0.11,
    )
