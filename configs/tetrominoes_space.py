"""SPACE on Tetrominoes; a recipe of ours, no paper's (configs/clevr_space.py is).

    python launch.py --config=configs/tetrominoes_space.py
    python launch.py --config=configs/tetrominoes_space.py:procedural        # on procedural data
    python launch.py --config=configs/tetrominoes_space.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/tetrominoes_space.py --mode=sample     # backgrounds

Cells of 8 pixels in images of 32, and boxes about as large as a piece; otherwise as on CLEVR.
docs/results/space.md has what was measured.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import space


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, space.VARIANTS)
    config = space.scenes("tetrominoes:akorn", chosen, scale_prior=-0.5)  # 38 % of the image
    if "small" in chosen:
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
    else:
        config.model.image_size = 32
        config.model.grid_size = 4
    return config
