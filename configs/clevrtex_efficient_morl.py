"""Efficient MORL on ClevrTex, as its authors ran it (arXiv 2111.10265).

python launch.py --config=configs/clevrtex_efficient_morl.py
python launch.py --config=configs/clevrtex_efficient_morl.py:procedural  # on procedural data
python launch.py --config=configs/clevrtex_efficient_morl.py:small,procedural  # minutes on a CPU

500,000 steps of 32 images (4 devices with 8 each), Adam, gradients clipped to a norm of 5; the rate
rises to 4e-4 in 10,000 steps and halves every 100,000. Three refinements, one from step 100,000 on,
three at evaluation. GECO holds the squared error of the last iteration from step 1,000 on.

What it reached is to be read off the paper's tables.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import efficient_morl


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, efficient_morl.VARIANTS)
    return efficient_morl.discovery("clevrtex_full:clevrtex", chosen, image_size=128, num_slots=11)
