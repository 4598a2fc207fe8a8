"""SLATE on Tetrominoes, a small stand-in for the data of its paper (arXiv 2110.11405).

    python launch.py --config=configs/tetrominoes_slate.py:procedural
    python launch.py --config=configs/tetrominoes_slate.py:small,procedural  # minutes on two cores

Not an experiment of the paper.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slate


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, slate.VARIANTS)
    config = slate.discovery("tetrominoes:akorn", chosen, image_size=32, num_slots=4)
    config.num_steps = 160_000
    if "small" in chosen:
        slate.shrink(config, num_steps=4_000)
        config.data.train = (384, 20_384)
        config.data.validation = (64, 384)
        config.data.max_records = 20_384
    return config
