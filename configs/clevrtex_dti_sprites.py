"""DTI-Sprites on ClevrTex, as its authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevrtex_dti_sprites.py
    python launch.py --config=configs/clevrtex_dti_sprites.py:complex     # colours sprites too
    python launch.py --config=configs/clevrtex_dti_sprites.py:trunk12     # the encoder 12x faster
    python launch.py --config=configs/clevrtex_dti_sprites.py:procedural  # on procedural data
    python launch.py --config=configs/clevrtex_dti_sprites.py:small,procedural  # minutes on CPU

Ten sprites in ten layers, 562,500 steps of 32 images on one GPU. With `complex`, sprites are
coloured each by itself and the background is warped; the release does not say which of the two gave
the published scores, which are to be read off the paper.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import dti_sprites


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, dti_sprites.BENCHMARK_VARIANTS)
    config = dti_sprites.benchmark("clevrtex_full:clevrtex", chosen, steps_per_epoch=1250)
    config.eval.datasets = "clevrtex/outd,clevrtex/camo"
    if "small" in chosen:
        dti_sprites.shrink_clevr(config)
    return config
