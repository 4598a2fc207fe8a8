"""GENESIS-V2 on CLEVR with masks, as ClevrTex's authors ran it (arXiv 2111.10265).

python launch.py --config=configs/clevr_genesis_v2.py
python launch.py --config=configs/clevr_genesis_v2.py:procedural        # on procedural data
python launch.py --config=configs/clevr_genesis_v2.py:small,procedural  # minutes on a CPU
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import genesis_v2


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, genesis_v2.VARIANTS)
    return genesis_v2.discovery(
        "clevr10:clevrtex", chosen, goal=0.5655, image_size=128, num_slots=11
    )
