"""Slot Attention on RAVENS robot data (github.com/HHousen/object-discovery-pytorch).

    python launch.py --config=configs/ravens_slot_attention.py --config.data.raw_dir=DIR
    python launch.py --config=configs/ravens_slot_attention.py:first_view  # one camera
    python launch.py --config=configs/ravens_slot_attention.py:weighted_sum
    python launch.py --config=configs/ravens_slot_attention.py:batch_norm
    python launch.py --config=configs/ravens_slot_attention.py:layer_norm
    python launch.py --config=configs/ravens_slot_attention.py:implicit
    python launch.py --config=configs/ravens_slot_attention.py:procedural  # on procedural data

DIR has `ravens_robot_data_train.h5` and `ravens_robot_data_test.h5`. The settings are those of Slot
Attention on CLEVR (arXiv 2006.15055) with 12 slots, for up to eight objects, the ground, the table
and the robot; no scores are published. Procedural data are other scenes.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slot_attention


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*slot_attention.VARIANTS, "first_view"))
    view = "first_view" if "first_view" in chosen else "official"
    return slot_attention.slot_discovery(
        f"ravens_{view}:hhousen", chosen, image_size=128, num_slots=12, decoder="expanding"
    )
