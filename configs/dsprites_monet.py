"""MONet on Multi-dSprites, colored on grayscale.

    python launch.py --config=configs/dsprites_monet.py
    python launch.py --config=configs/dsprites_monet.py:procedural        # on procedural data
    python launch.py --config=configs/dsprites_monet.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/dsprites_monet.py --mode=sample     # single components

The Efficient MORL paper (arXiv 2106.03849, Table 1) has MONet at an FG-ARI of 90.4 % (std 0.8, five
seeds). No released recipe goes with it: these are the settings of MONet's paper (arXiv 1901.11390:
deviations 0.09 and 0.11, weights 0.5, RMSprop at 1e-4, 1,000,000 steps of 64 images) with the
ClevrTex benchmark's network for 64 pixels.

Any number of slots divides an image: `--mode=evaluate --config.eval.options.num_slots=6` takes more
than a run was trained with. Measured, the small variant: docs/results/monet.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import monet


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, monet.VARIANTS)
    config = monet.discovery(
        "multi_dsprites:iodine",
        chosen,
        image_size=64,
        num_slots=6,
        num_levels=5,
        foreground_std=0.11,
    )
    if "small" in chosen:
        config.data.max_objects = 3
        config.data.train = (640, 5_000)
        config.data.max_records = 12_000
        config.model.num_slots = 4
    return config
