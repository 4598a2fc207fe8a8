"""SPAIR on CLEVR with masks, as ClevrTex's authors run it (arXiv 2111.10265).

    python launch.py --config=configs/clevr_spair.py
    python launch.py --config=configs/clevr_spair.py:procedural        # on procedural data
    python launch.py --config=configs/clevr_spair.py:small,procedural  # minutes on a CPU core

Published, on the original data (%, mean ± std over seeds; 250,000 steps of 128 images):

    | FG-ARI     | mIoU       |
    | 77.1 ± 1.9 | 66.0 ± 4.0 |

as Table 9 of Baltaci & Aubry (2026) quotes them; `metrics.json` has mIoU as `miou_clevrtex`.

The authors' rate falls when the squared error of the validation scenes stalls, here when their
loss does.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import spair


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, spair.VARIANTS)
    return spair.scenes(
        "clevr10:clevrtex",
        chosen,
        background_size=1,
        sigma=0.15,
        presence_prior=spair.linear(1e-4, 0.99, 10_000),
        steps_per_epoch=547,
    )
