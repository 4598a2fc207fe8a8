"""DTI-Sprites on CLEVR with masks, as ClevrTex's authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevr_dti_sprites.py
    python launch.py --config=configs/clevr_dti_sprites.py:complex     # see clevrtex_dti_sprites.py
    python launch.py --config=configs/clevr_dti_sprites.py:trunk12     # the encoder 12 times faster
    python launch.py --config=configs/clevr_dti_sprites.py:procedural  # on procedural data
    python launch.py --config=configs/clevr_dti_sprites.py:small,procedural  # minutes on CPU

Ten sprites in ten layers, 984,000 steps of 32 images on one GPU. Scores are to be read off the
paper.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import dti_sprites


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, dti_sprites.BENCHMARK_VARIANTS)
    config = dti_sprites.benchmark("clevr10:clevrtex", chosen, steps_per_epoch=2187)
    if "small" in chosen:
        dti_sprites.shrink_clevr(config)
    return config
