"""GENESIS-V2 on Tetrominoes.

    python launch.py --config=configs/tetrominoes_genesis_v2.py
    python launch.py --config=configs/tetrominoes_genesis_v2.py:procedural        # procedural data
    python launch.py --config=configs/tetrominoes_genesis_v2.py:small,procedural  # minutes on a CPU
    python launch.py --config=configs/tetrominoes_genesis_v2.py --mode=sample     # from the prior

The data are as the authors' code reads them; their paper (arXiv 2104.09958) reports nothing on this
set. 500,000 steps of 32 images, Adam at 1e-4, GECO with a goal of 0.5655 per pixel and channel.

At evaluation `--config.eval.options.num_slots=6` takes another number of slots, and
`--config.eval.options.dynamic=True` as many as an image needs. Measured, the small variant:
docs/results/genesis_v2.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import genesis_v2


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, genesis_v2.VARIANTS)
    config = genesis_v2.discovery(
        "tetrominoes:genesis", chosen, goal=0.5655, image_size=32, num_slots=4
    )
    if "small" in chosen:
        config.data.train = (640, 20_000)
        config.data.max_records = 20_000
    return config
