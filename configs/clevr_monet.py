"""MONet on CLEVR with masks, as ClevrTex's authors ran it (arXiv 2111.10265).

    python launch.py --config=configs/clevr_monet.py
    python launch.py --config=configs/clevr_monet.py:procedural        # on procedural data
    python launch.py --config=configs/clevr_monet.py:small,procedural  # minutes on two CPU cores
    python launch.py --config=configs/clevr_monet.py --mode=sample     # single components

Published, on the original data (%, mean ± std over seeds; 1,000,000 steps of 64 images, RMSprop at
1e-4, the KL of the slots and that of the masks weighed by 0.5):

    | FG-ARI      | mIoU        |
    | 54.5 ± 11.4 | 30.7 ± 14.9 |

as Table 9 of Baltaci & Aubry (2026) quotes them; `metrics.json` has mIoU as `miou_clevrtex`. Seeds
differ: with some the background is one slot, with others several.

As theirs: 11 slots, pixels' deviations 0.09 in the first slot and 0.15 in the others (MONet's paper
has 0.11), slots that are drawn at evaluation too. --config.eval.options.use_mean=True takes means.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import monet


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, monet.VARIANTS)
    return monet.discovery("clevr10:clevrtex", chosen, image_size=128, num_slots=11, num_levels=6)
