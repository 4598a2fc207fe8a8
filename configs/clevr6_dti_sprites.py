"""DTI-Sprites on CLEVR with at most six objects (arXiv 2104.14575).

    python launch.py --config=configs/clevr6_dti_sprites.py
    python launch.py --config=configs/clevr6_dti_sprites.py:procedural  # on procedural data
    python launch.py --config=configs/clevr6_dti_sprites.py:small,procedural  # minutes on CPU

Published, on the original data (%): the sprite of each pixel against its class, background
included; `metrics.json` has the two as `class_acc` and `class_miou`.

    | mean accuracy | mean IoU |
    | 79.3          | 64.2     |

492,000 steps of 32 images. Six sprites, for three shapes in two materials, in six layers. The paper
scores the first 320 images of the training set; this protocol holds 320 out.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import dti_sprites


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, dti_sprites.VARIANTS)
    config = dti_sprites.discovery(
        "clevr6:slot_attention",
        chosen,
        steps_per_epoch=1093,
        num_epochs=450,
        learn_from=40,
        deform_from=150,
        drops=(250, 400),
        reassign_every=250,
        num_sprites=6,
        num_layers=6,
    )
    if "small" in chosen:
        dti_sprites.shrink_clevr(config)
        config.data.train = (640, None)  # of 4000 scenes those with at most six objects
    return config
