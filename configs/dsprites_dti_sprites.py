"""DTI-Sprites on Multi-dSprites, coloured sprites on grey (arXiv 2104.14575).

    python launch.py --config=configs/dsprites_dti_sprites.py
    python launch.py --config=configs/dsprites_dti_sprites.py:procedural  # on procedural data
    python launch.py --config=configs/dsprites_dti_sprites.py:small,procedural  # minutes on CPU

Published, on the original data (%): the sprite of each pixel against its shape, background
included; `metrics.json` has the two as `class_acc` and `class_miou`.

    | mean accuracy | mean IoU |
    | 91.3          | 84.0     |

956,000 steps of 32 images. Three sprites for the three shapes, which are turned and scaled from
epoch 20 on, in five layers with a learned order. The paper scores the first 320 images of the
training set; this protocol holds 320 out.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import dti_sprites


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, dti_sprites.VARIANTS)
    config = dti_sprites.discovery(
        "multi_dsprites:slot_attention",
        chosen,
        steps_per_epoch=1875,
        num_epochs=510,
        learn_from=10,
        deform_from=20,
        drops=(250, 500),
        reassign_every=100,
        mean_background=False,
        image_size=64,
        num_sprites=3,
        num_layers=5,
        sprite_size=28,
        mask_std=7.0,
        encoder="resnet32",
        encoder_channels=(16, 32, 64),
        pool_size=(4, 4),
        sprite_transformations=("identity", "similarity"),
    )
    if "small" in chosen:
        dti_sprites.shrink(config, num_steps=3000, mean_background=False)
        config.data.test = (0, 320)
        config.data.train = (320, 12_000)
        config.data.max_records = 12_000
    return config
