"""Slot Attention on CLEVR of up to ten objects, as ClevrTex's authors ran it (arXiv 2111.10265).

    python launch.py --config=configs/clevr_slot_attention.py             # weighted mean
    python launch.py --config=configs/clevr_slot_attention.py:weighted_sum
    python launch.py --config=configs/clevr_slot_attention.py:batch_norm
    python launch.py --config=configs/clevr_slot_attention.py:layer_norm
    python launch.py --config=configs/clevr_slot_attention.py:implicit
    python launch.py --config=configs/clevr_slot_attention.py:procedural  # on procedural data

Published, on the original data (mean ± std over seeds; scores in %, MSE the sum of an image's
squared errors in [0, 1], 49,152 times the `mse` of metrics.json, whose `miou_clevrtex` is mIoU):

    | variant       | FG-ARI       | mIoU          | MSE    |
    | weighted mean | 95.89 ± 2.37 | 36.61 ± 24.83 | 23 ± 3 |

As on ClevrTex (configs/clevrtex_slot_attention.py, which names what differs from theirs).
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slot_attention


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, slot_attention.VARIANTS)
    return slot_attention.slot_discovery(
        "clevr10:clevrtex",
        chosen,
        image_size=128,
        num_slots=11,
        decoder="expanding",
        encoder_norm="map",
        attention_bias=True,
    )
