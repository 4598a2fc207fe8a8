"""GENESIS-V2 on Tetrominoes.

python launch.py --config=configs/tetrominoes_genesis_v2.py
python launch.py --config=configs/tetrominoes_genesis_v2.py:procedural        # on procedural data
python launch.py --config=configs/tetrominoes_genesis_v2.py:small,procedural  # minutes on a CPU
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import genesis_v2


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, genesis_v2.VARIANTS)
    return genesis_v2.discovery(
        "tetrominoes:genesis", chosen, goal=0.5655, image_size=32, num_slots=4
    )
