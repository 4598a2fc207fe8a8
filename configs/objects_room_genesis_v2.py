"""GENESIS-V2 on Objects Room (arXiv 2104.09958), as the ClevrTex benchmark trains it.

    python launch.py --config=configs/objects_room_genesis_v2.py
    python launch.py --config=configs/objects_room_genesis_v2.py:procedural        # 3D Shapes
    python launch.py --config=configs/objects_room_genesis_v2.py:small,procedural  # minutes, CPU
    python launch.py --config=configs/objects_room_genesis_v2.py --mode=sample     # from the prior

7 slots; 500,000 steps of 32 images, Adam at 1e-4, GECO with a goal of 0.5655 per pixel and channel.
The authors' released checkpoint has an FG-ARI of 0.82. Procedural data are rooms of another set,
3D Shapes: floor, wall and one solid, all of which count as objects.

At evaluation `--config.eval.options.num_slots=6` takes another number of slots, and
`--config.eval.options.dynamic=True` as many as an image needs.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import genesis_v2


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, genesis_v2.VARIANTS)
    config = genesis_v2.discovery(
        "objects_room:train", chosen, goal=0.5655, image_size=64, num_slots=7
    )
    if "small" in chosen:
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
        config.model.num_slots = 3
    return config
