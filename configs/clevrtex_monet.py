"""MONet on ClevrTex, as its authors ran it (arXiv 2111.10265).

    python launch.py --config=configs/clevrtex_monet.py
    python launch.py --config=configs/clevrtex_monet.py:procedural        # on procedural data
    python launch.py --config=configs/clevrtex_monet.py:small,procedural  # minutes on two CPU cores
    python launch.py --config=configs/clevrtex_monet.py --mode=sample     # single components

1,000,000 steps of 64 images, RMSprop at 1e-4, the KL of the slots and that of the masks weighed by
0.5; all is as in configs/clevr_monet.py. Published scores are to be read off the paper.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import monet


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, monet.VARIANTS)
    return monet.discovery(
        "clevrtex_full:clevrtex", chosen, image_size=128, num_slots=11, num_levels=6
    )
