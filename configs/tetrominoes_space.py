"""SPACE on Tetrominoes; a recipe of ours, no paper's (configs/clevr_space.py is).

    python launch.py --config=configs/tetrominoes_space.py
    python launch.py --config=configs/tetrominoes_space.py:procedural        # on procedural data
    python launch.py --config=configs/tetrominoes_space.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/tetrominoes_space.py --mode=sample     # backgrounds

Boxes are about as large as a piece. Pieces lie on black, which is most of a picture, and nothing
in the model says that black is the background: cells may as well draw the black around pieces. So
the background learns first and fast, its latents are too few for pieces, and its pixels deviate
less from it than those of objects. That does not suffice yet: docs/results/space.md has what was
measured.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import space
from configs.families.space import linear

SCALE_PRIOR = -0.4  # 40 % of the image's side


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, space.VARIANTS)
    config = space.scenes("tetrominoes:akorn", chosen)
    config.model.mask_size = config.model.component_size = 1
    config.model.background_std = 0.07
    config.model.scale_prior_std = 0.4
    if "small" in chosen:
        config.model.groups = 1
        config.task = space.task(
            linear(0.5, 0.02, 400, 1_200),
            SCALE_PRIOR,
            linear(2.5, 0.7, 0, 1_200),
            boundary=0.1,
            kl_what=linear(0.0, 1.0, 300, 1_600),
        )
        rate = linear(0.0, 1e-3, 200, 400)
        config.optimizer.learning_rate = 3e-3
        config.optimizer.groups = (("foreground/.*", {"learning_rate": rate}),)
        config.num_steps = 1_600
        config.checkpoint_every = 400
        config.data.size = None
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
    else:
        config.task = space.task(space.PRESENCE_PRIOR, SCALE_PRIOR)
        config.model.image_size = 32
        config.model.grid_size = 4
    return config
