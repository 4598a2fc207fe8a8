"""SLATE on CLEVR6, CLEVR with masks of at most 6 objects (arXiv 2110.11405).

    python launch.py --config=configs/clevr6_slate.py
    python launch.py --config=configs/clevr6_slate.py:procedural        # on procedural data
    python launch.py --config=configs/clevr6_slate.py:small,procedural  # an hour on a CPU core

Settings of github.com/HHousen/object-discovery-pytorch, whose released checkpoint has seen 371,516
steps of 50 images: 1,024 tokens out of 4,096, eight blocks with eight heads, slot attention with
three iterations without and one with a gradient, gradients clipped by their norm. Its data are
those of this recipe but for scenes of six objects, which its filter drops.

The transformer's blocks are recomputed in the backward pass: their attention alone would take 40 GB
otherwise.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import slate


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, slate.VARIANTS)
    config = slate.discovery(
        "clevr6:slot_attention",
        chosen,
        image_size=128,
        num_slots=7,
        vocab_size=4096,
        num_blocks=8,
        num_heads=8,
        num_iterations=4,
        gradient="implicit",
        remat=True,
    )
    config.num_steps = 371_516
    config.optimizer.clip_value = 0.0
    config.optimizer.clip_norm = 1.0
    if "small" in chosen:
        slate.shrink(config, num_steps=3_000)
        config.model.image_size = 64
        config.model.remat = False
        config.data.size = 64
        config.data.train = (0, 1_500)
        config.data.test = (1_500, 1_820)
        config.data.max_records = 4_000
    return config
