"""Efficient MORL on CLEVR, as ClevrTex's authors ran it (arXiv 2111.10265).

python launch.py --config=configs/clevr_efficient_morl.py
python launch.py --config=configs/clevr_efficient_morl.py:procedural  # on procedural data
python launch.py --config=configs/clevr_efficient_morl.py:small,procedural  # minutes on a CPU

Published, on the original data (%, mean ± std over three seeds):
FG-ARI 93.3 ± 3.2, mIoU 50.2 ± 22.6.

500,000 steps of 32 images (4 devices with 8 each), Adam, gradients clipped to a norm of 5; the rate
rises to 4e-4 in 10,000 steps and halves every 100,000. Three refinements, one from step 100,000 on,
three at evaluation. GECO holds the squared error of the last iteration from step 1,000 on.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import efficient_morl


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, efficient_morl.VARIANTS)
    return efficient_morl.discovery("clevr10:clevrtex", chosen, image_size=128, num_slots=11)
