"""ItrSA on CLEVRTex, the baseline of AKOrN (arXiv 2410.13821, table of CLEVRTex).

    python launch.py --config=configs/clevrtex_itrsa.py             # one block
    python launch.py --config=configs/clevrtex_itrsa.py:l2          # two blocks
    python launch.py --config=configs/clevrtex_itrsa.py:procedural  # on CLEVRTex-like data

Published, on the original data (%, mean ± std over seeds):

    | variant   | score  | full       | OOD        | CAMO       |
    | one block | FG-ARI | 65.7 ± 0.3 | 64.6 ± 0.8 | 49.0 ± 0.7 |
    |           | mBO    | 44.6 ± 0.9 | 45.1 ± 0.4 | 30.2 ± 0.8 |
    | :l2       | FG-ARI | 76.3 ± 0.4 | 74.9 ± 0.8 | 61.9 ± 1.3 |
    |           | mBO    | 48.5 ± 0.1 | 46.4 ± 0.5 | 37.1 ± 0.5 |

Numbers on procedural data are not comparable with these.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("l2", "procedural"))
    config = akorn.contrastive_discovery(
        "clevrtex_full:clevrtex", size=128, procedural="procedural" in chosen
    )
    config.num_steps = 78_500
    config.model = fields.model("itrsa", channels=256, patch_size=8, image_size=128)
    if "l2" in chosen:
        config.model.num_layers = 2
    return config
