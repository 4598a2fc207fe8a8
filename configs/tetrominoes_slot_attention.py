"""Slot Attention on Tetrominoes (arXiv 2006.15055).

    python launch.py --config=configs/tetrominoes_slot_attention.py             # weighted mean
    python launch.py --config=configs/tetrominoes_slot_attention.py:weighted_sum
    python launch.py --config=configs/tetrominoes_slot_attention.py:batch_norm
    python launch.py --config=configs/tetrominoes_slot_attention.py:layer_norm
    python launch.py --config=configs/tetrominoes_slot_attention.py:implicit
    python launch.py --config=configs/tetrominoes_slot_attention.py:procedural  # on procedural data

Published, on the original data (%, mean ± std over seeds):

    | variant       | FG-ARI     |
    | weighted mean | 99.5 ± 0.2 |

500,000 steps of 64 images; the rate rises to 4e-4 in 10,000 steps and halves every 100,000.
Images keep their 35 x 35 pixels, so the decoder is the stationary one.
One GPU; the paper's was a V100.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slot_attention


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, slot_attention.VARIANTS)
    return slot_attention.slot_discovery(
        "tetrominoes:slot_attention",
        chosen,
        image_size=35,
        num_slots=4,
        channels=32,
        decoder="stationary",
    )
