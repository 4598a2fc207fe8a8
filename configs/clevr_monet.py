"""MONet on CLEVR with masks, as ClevrTex's authors ran it (arXiv 2111.10265).

python launch.py --config=configs/clevr_monet.py
python launch.py --config=configs/clevr_monet.py:procedural        # on procedural data
python launch.py --config=configs/clevr_monet.py:small,procedural  # minutes on two CPU cores
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import monet


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, monet.VARIANTS)
    return monet.discovery("clevr10:clevrtex", chosen, image_size=128, num_slots=11, num_levels=6)
