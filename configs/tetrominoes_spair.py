"""SPAIR on Tetrominoes; a recipe of ours, no paper's (configs/clevr_spair.py is).

    python launch.py --config=configs/tetrominoes_spair.py
    python launch.py --config=configs/tetrominoes_spair.py:procedural        # on procedural data
    python launch.py --config=configs/tetrominoes_spair.py:small,procedural  # minutes on a CPU core

The pieces lie on black, as the digits of SPAIR's own paper do, so there is no background to learn.
As there, too, objects are at first many and become rare, which merges the parts of a piece. Boxes
are about as large as a piece, and absent ones cost nothing. The small recipe has 3 x 3 cells in
images of 24 pixels, and a wide `sigma`: the more exact a reconstruction must be, the more boxes
share a piece. docs/results/spair.md has what was measured.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import spair


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, spair.VARIANTS)
    small = "small" in chosen
    presence_prior = spair.linear(0.99, 1e-4 if small else 0.01, 700 if small else 10_000)
    config = spair.scenes(
        "tetrominoes:akorn",
        chosen,
        background_size=0,
        sigma=0.15,
        presence_prior=presence_prior,
        steps_per_epoch=469,
    )
    beta = 2.0 if small else spair.BETA
    config.task = spair.task(0.2 if small else 0.15, presence_prior, beta, present_only=1.0)
    config.model.size_prior = (0.0, 0.15)  # half the anchor
    if small:
        config.task.weights.kl_pres = 4.0
        config.model.size_prior = (0.3, 0.4)
        config.data.crop = None
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
        config.data.size = config.model.image_size = 24
        config.model.anchor_size = 16
        config.num_steps = 1_200
        config.checkpoint_every = 400
    else:
        config.model.image_size = 32
        config.model.backbone_channels = (32, 64, 128)
        config.model.backbone_groups = (8, 8, 16)
        config.model.anchor_size = 24
        config.model.glimpse_size = 12
    return config
