"""SPAIR on ClevrTex, as its authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevrtex_spair.py
    python launch.py --config=configs/clevrtex_spair.py:procedural        # on procedural data
    python launch.py --config=configs/clevrtex_spair.py:small,procedural  # minutes on a CPU core

Published: it fails. The authors report an FG-ARI and an mIoU of 0: the background explains
everything and no cell has an object. A run that ends so reproduces the paper.

250,000 steps of 128 images; as on CLEVR (configs/clevr_spair.py), but for four latents of the
background, and for the deviation of a pixel, which falls from 0.5 to 0.15 while the prior rises, in
50,000 steps.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import spair


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, spair.VARIANTS)
    return spair.scenes(
        "clevrtex_full:clevrtex",
        chosen,
        background_size=4,
        sigma=spair.linear(0.5, 0.15, 50_000),
        presence_prior=spair.linear(1e-4, 0.99, 50_000),
        steps_per_epoch=313,
    )
