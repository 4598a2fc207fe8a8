"""Slot Attention on Multi-dSprites, colored on grayscale (arXiv 2006.15055).

    python launch.py --config=configs/dsprites_slot_attention.py             # weighted mean
    python launch.py --config=configs/dsprites_slot_attention.py:weighted_sum
    python launch.py --config=configs/dsprites_slot_attention.py:batch_norm
    python launch.py --config=configs/dsprites_slot_attention.py:layer_norm
    python launch.py --config=configs/dsprites_slot_attention.py:implicit
    python launch.py --config=configs/dsprites_slot_attention.py:procedural  # on procedural data
    python launch.py --config=configs/dsprites_slot_attention.py:small,procedural  # on CPU cores

Published, on the original data (%, mean ± std over seeds):

    | variant       | FG-ARI     |
    | weighted mean | 91.3 ± 0.3 |

500,000 steps of 64 images; the rate rises to 4e-4 in 10,000 steps and halves every 100,000.
One GPU; the paper's was a V100.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slot_attention


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*slot_attention.VARIANTS, "small"))
    config = slot_attention.slot_discovery(
        "multi_dsprites:slot_attention",
        chosen,
        image_size=64,
        num_slots=6,
        channels=32,
        decoder="stationary",
    )
    if "small" in chosen:
        slot_attention.shrink(config)
    return config
