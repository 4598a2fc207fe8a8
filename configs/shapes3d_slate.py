"""SLATE on 3D Shapes (arXiv 2110.11405): floor, wall and solid as slots, and new scenes of them.

    python launch.py --config=configs/shapes3d_slate.py
    python launch.py --config=configs/shapes3d_slate.py:contiguous        # the released split
    python launch.py --config=configs/shapes3d_slate.py:procedural        # on procedural data
    python launch.py --config=configs/shapes3d_slate.py:small,procedural  # minutes on two CPU cores

Settings of the released code, singhgautam/slate: 20 epochs of 8,000 steps of 50 images; the
temperature falls from 1 to 0.1 in 30,000 steps, while the rate of everything but the VAE rises.
The released code cuts the file in its order into training, validation and test, which are then of
different hues of the floor: that is `:contiguous`; the default is a random split of the same sizes.
The published file has no masks, so only the reconstruction is scored; procedural data have.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slate


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*slate.VARIANTS, "contiguous"))
    split = "slate" if "contiguous" in chosen else "random"
    config = slate.discovery(f"shapes3d:{split}", chosen, image_size=64, num_slots=3)
    config.num_steps = 160_000
    if "small" in chosen:
        slate.shrink(config, num_steps=3_000)
        config.model.image_size = 32
        config.data.size = 32
        config.data.test = (0, 320)
        config.data.validation = (320, 640)
        config.data.train = (2_000, 12_000)
        config.data.max_records = 12_000
    return config
