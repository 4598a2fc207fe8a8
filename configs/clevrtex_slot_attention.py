"""Slot Attention on ClevrTex, as ClevrTex's authors ran it (arXiv 2111.10265).

    python launch.py --config=configs/clevrtex_slot_attention.py             # weighted mean
    python launch.py --config=configs/clevrtex_slot_attention.py:weighted_sum
    python launch.py --config=configs/clevrtex_slot_attention.py:batch_norm
    python launch.py --config=configs/clevrtex_slot_attention.py:layer_norm
    python launch.py --config=configs/clevrtex_slot_attention.py:implicit
    python launch.py --config=configs/clevrtex_slot_attention.py:procedural  # on procedural data

Published, on the original data (mean ± std over seeds; scores in %, MSE the sum of an image's
squared errors in [0, 1], 49,152 times the `mse` of metrics.json, whose `miou_clevrtex` is mIoU):

    | variant       | FG-ARI       | mIoU         | MSE     |
    | weighted mean | 62.40 ± 2.23 | 22.58 ± 2.07 | 254 ± 8 |

500,000 steps of 64 images; the rate rises to 4e-4 in 10,000 steps and halves every 100,000.
As theirs: 11 slots, the encoder's norm over the whole map, biases in the attention. Unlike theirs:
images in [-1, 1] and the mean squared error; they have [0, 1] and the sum over an image.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slot_attention


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, slot_attention.VARIANTS)
    return slot_attention.slot_discovery(
        "clevrtex_full:clevrtex",
        chosen,
        image_size=128,
        num_slots=11,
        decoder="expanding",
        encoder_norm="map",
        attention_bias=True,
    )
