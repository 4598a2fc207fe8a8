"""AKOrN on CLEVRTex (arXiv 2410.13821, table of object discovery on CLEVRTex).

    python launch.py --config=configs/clevrtex_akorn.py             # one layer
    python launch.py --config=configs/clevrtex_akorn.py:l2          # two layers
    python launch.py --config=configs/clevrtex_akorn.py:large       # two layers, 512 channels
    python launch.py --config=configs/clevrtex_akorn.py:procedural  # on CLEVRTex-like data

Published, on the original data (%, mean ± std over seeds):

    | variant             | score  | full       | OOD        | CAMO       |
    | one layer           | FG-ARI | 75.6 ± 0.2 | 73.4 ± 0.4 | 59.9 ± 0.1 |
    |                     | mBO    | 55.0 ± 0.0 | 56.1 ± 1.1 | 44.3 ± 0.9 |
    | :l2                 | FG-ARI | 80.5 ± 1.5 | 79.2 ± 1.2 | 67.7 ± 1.5 |
    |                     | mBO    | 54.9 ± 0.6 | 55.7 ± 0.5 | 46.2 ± 0.9 |
    | :l2, up-tiling 4    | FG-ARI | 87.7 ± 1.0 | 85.2 ± 0.9 | 74.5 ± 1.2 |
    |                     | mBO    | 55.3 ± 2.1 | 55.6 ± 1.5 | 45.6 ± 3.4 |
    | :large, up-tiling 4 | FG-ARI | 88.5 ± 0.9 | 87.7 ± 0.5 | 77.0 ± 0.5 |
    |                     | mBO    | 59.7 ± 0.9 | 60.8 ± 0.6 | 53.4 ± 0.7 |

OOD and CAMO: --mode=evaluate --config.eval.datasets=clevrtex/outd,clevrtex/camo. Up-tiling:
--config.eval.up_tiling=4. 500 epochs of 40,000 images are 78,500 steps of 256 (1,024 epochs of
batch 512 for :large). Numbers on procedural data are not comparable with these.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("l2", "large", "procedural"))
    config = akorn.contrastive_discovery(
        "clevrtex_full:clevrtex", size=128, procedural="procedural" in chosen
    )
    config.num_steps = 78_500
    config.model = fields.model(
        "akorn",
        channels=256,
        patch_size=8,
        image_size=128,
        stimulus_norm="gn",
        autorescale=False,
    )
    if "l2" in chosen or "large" in chosen:
        config.model.num_layers = 2
    if "large" in chosen:
        config.model.channels = 512
        config.batch_size = 512
        config.num_steps = 80_896
        config.optimizer.learning_rate = 5e-4
    return config
