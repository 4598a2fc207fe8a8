"""A ViT on CLEVRTex, the baseline of AKOrN (arXiv 2410.13821, table of CLEVRTex).

    python launch.py --config=configs/clevrtex_vit.py
    python launch.py --config=configs/clevrtex_vit.py:procedural  # on CLEVRTex-like data

The paper does not say how deep its ViT is; eight blocks here, as many as ItrSA makes steps.
Published, on the original data (%, FG-ARI / mBO, mean ± std over seeds): full 46.4 ± 0.6 /
25.1 ± 0.7, OOD 44.1 ± 0.5 / 27.2 ± 0.5, CAMO 32.5 ± 0.6 / 16.1 ± 1.1. Numbers on synthetic data are
not comparable with these.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = akorn.contrastive_discovery(
        "clevrtex_full:clevrtex", size=128, procedural="procedural" in chosen
    )
    config.num_steps = 78_500
    config.model = fields.model(
        "itrsa", channels=256, num_layers=8, num_steps=1, patch_size=8, image_size=128
    )
    return config
