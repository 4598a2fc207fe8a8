"""MONet on CLEVR6, CLEVR with masks of at most 6 objects.

    python launch.py --config=configs/clevr6_monet.py
    python launch.py --config=configs/clevr6_monet.py:procedural        # on procedural data
    python launch.py --config=configs/clevr6_monet.py:small,procedural  # minutes on two CPU cores
    python launch.py --config=configs/clevr6_monet.py --mode=sample     # single components

The Efficient MORL paper (arXiv 2106.03849, Table 1) has MONet at an FG-ARI of 96.2 % (std 0.6, five
seeds) on CLEVR6 at 96 x 96 pixels. No released recipe goes with it: these are the settings of
MONet's paper (arXiv 1901.11390: deviations 0.09 and 0.11, weights 0.5, RMSprop at 1e-4, 1,000,000
steps of 64 images) with the ClevrTex benchmark's network, on the protocol of Slot Attention.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import monet


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, monet.VARIANTS)
    return monet.discovery(
        "clevr6:slot_attention",
        chosen,
        image_size=128,
        num_slots=7,
        num_levels=6,
        foreground_std=0.11,
    )
