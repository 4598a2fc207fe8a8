"""MarioNette on Tetrominoes: not an experiment of its paper, which decomposes games.

    python launch.py --config=configs/tetrominoes_marionette.py
    python launch.py --config=configs/tetrominoes_marionette.py:procedural        # procedural data
    python launch.py --config=configs/tetrominoes_marionette.py:small,procedural  # minutes on CPU

The 32 x 32 pixels of AKOrN's crop, black behind, and 4 x 4 sprites of 16 pixels. Sprites do not
change colour, so a dictionary holds blocks of each colour rather than pieces.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import marionette


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, marionette.VARIANTS)
    config = marionette.discovery(
        "tetrominoes:akorn",
        chosen,
        image_size=32,
        grid_size=4,
        background_color=(0.0, 0.0, 0.0),
    )
    if "small" in chosen:
        marionette.shrink(config, num_steps=3000)
        config.batch_size = 16
        config.data.train = (384, 20_384)
        config.data.validation = None
        config.data.max_records = 20_384
    return config
