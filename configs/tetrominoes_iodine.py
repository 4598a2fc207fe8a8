"""IODINE on Tetrominoes (arXiv 1903.00450).

python launch.py --config=configs/tetrominoes_iodine.py
python launch.py --config=configs/tetrominoes_iodine.py:released  # mixes images as the benchmark
python launch.py --config=configs/tetrominoes_iodine.py:procedural  # on procedural data
python launch.py --config=configs/tetrominoes_iodine.py:small,procedural  # minutes on a CPU

Published, on the original data (FG-ARI in %, mean ± std over five seeds; arXiv 2106.03849,
table 1): 99.2 ± 0.4.

This is the ClevrTex benchmark's network and optimizer (configs/clevr_iodine.py) at the size and
number of slots of this set; the paper's own networks for it differ in width.

At evaluation `--config.eval.options.num_slots=5` takes another number of slots, and
`--config.eval.options.num_iterations=6` another number of iterations. Measured, the small variant:
docs/results/iodine.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import iodine


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, iodine.VARIANTS)
    config = iodine.discovery("tetrominoes:iodine", chosen, image_size=35, num_slots=4)
    if "small" in chosen:
        config.data.train = (640, 20_000)
        config.data.max_records = 20_000
    return config
