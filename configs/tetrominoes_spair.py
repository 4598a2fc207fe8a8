"""SPAIR (Crawford & Pineau, AAAI 2019) on Tetrominoes, on two CPU cores.

python launch.py --config=configs/tetrominoes_spair.py
python launch.py --config=configs/tetrominoes_spair.py:procedural  # on procedural data
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import spair


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = spair.scenes(
        "tetrominoes:akorn",
        chosen,
        background_size=0,
        sigma=0.15,
        presence_prior=0.99,
        steps_per_epoch=1_000,
    )
    spair.shrink(config, image_size=32, background_size=0)
    return config
