"""Set prediction on CLEVR: the properties of every object, in no order (arXiv 2006.15055).

    python launch.py --config=configs/clevr_set_prediction.py             # weighted mean
    python launch.py --config=configs/clevr_set_prediction.py:weighted_sum
    python launch.py --config=configs/clevr_set_prediction.py:batch_norm
    python launch.py --config=configs/clevr_set_prediction.py:layer_norm
    python launch.py --config=configs/clevr_set_prediction.py:implicit
    python launch.py --config=configs/clevr_set_prediction.py:procedural  # on procedural data
    python launch.py --config=configs/clevr_set_prediction.py:tfds        # on CLEVR v1.0
    python launch.py --config=configs/clevr_set_prediction.py:krimmel     # arXiv 2407.04170

Published, on CLEVR v1.0 (average precision, %, by the distance that counts as found):

    | variant       | any  | 1    | 0.5  | 0.25 | 0.125 |
    | weighted mean | 94.3 | 86.7 | 56.0 | 10.8 | 0.9   |

150,000 steps of 512 images; the rate rises to 4e-4 in 1,000 steps and halves every 50,000.
Whole images are squashed to 128 x 128. Scenes are those of CLEVR with masks, 70,000 to train on
and the 15,000 that follow to test. :tfds takes the paper's own, the train and validation splits of
CLEVR v1.0, which TFDS prepares (18 GB, where TensorFlow is installed):

    tfds build clevr --file_format=array_record --data_dir=data

:krimmel crops the centre, scales the height by its own range (which makes thresholds 17 times
stricter in that direction: its scores compare with no others), takes the mean over pairs, and
trains for 500,000 steps.
"""

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import base, fields, protocols, variants
from configs.families import slot_attention


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*slot_attention.VARIANTS, "tfds", "krimmel"))
    sources = [name for name in ("procedural", "tfds", "krimmel") if name in chosen]
    if "tfds" in chosen and len(sources) > 1:
        raise UserError(f"variants {', '.join(sources)} are of different data; choose one.")
    config = base.get_config()
    config.batch_size = 512
    config.data = protocols.protocol("clevr10:krimmel", procedural="procedural" in chosen)
    config.data.validation = None
    config.data.test = (70_000, 85_000)
    config.data.max_records = 85_000
    config.data.num_clusters = 10
    config.model = fields.model("set_prediction", image_size=128, num_slots=10)
    config.task = fields.task("set_prediction")
    slot_attention.share(config, chosen)
    if "krimmel" in chosen:
        config.num_steps = 500_000
        config.task.box = "tight"
        config.task.reduction = "mean"
        config.optimizer.learning_rate = 4e-4 * 0.5**0.1
        config.optimizer.decay_start = 10_000
    else:
        if "tfds" in chosen:
            config.data = protocols.protocol("clevr:slot_attention", procedural=False)
        config.num_steps = 150_000
        config.data.crop = None
        config.data.interpolation = "bilinear"
        config.optimizer.warmup_steps = 1_000
        config.optimizer.decay_steps = 50_000
    return config
