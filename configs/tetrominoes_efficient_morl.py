"""Efficient MORL on Tetrominoes (arXiv 2106.03849).

python launch.py --config=configs/tetrominoes_efficient_morl.py
python launch.py --config=configs/tetrominoes_efficient_morl.py:procedural  # on procedural data
python launch.py --config=configs/tetrominoes_efficient_morl.py:small,procedural  # minutes on a CPU

Published, on the original data (FG-ARI in %, mean ± std over five seeds; arXiv 2106.03849,
table 1): 98.2 ± 1.8.

This is the ClevrTex benchmark's network and optimizer (configs/clevr_efficient_morl.py) at the size
and number of slots of this set, with GECO's goal per pixel.

At evaluation `--config.eval.options.num_slots=6` takes another number of slots, and
`--config.eval.options.num_iterations=3` another number of refinements. Measured, the small variant:
docs/results/efficient_morl.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import efficient_morl


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, efficient_morl.VARIANTS)
    config = efficient_morl.discovery("tetrominoes:iodine", chosen, image_size=35, num_slots=4)
    if "small" in chosen:
        config.data.crop = (1, 1, 33, 33)
        config.data.train = (640, 20_000)
        config.data.max_records = 20_000
    return config
