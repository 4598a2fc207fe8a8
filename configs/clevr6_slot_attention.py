"""Slot Attention on CLEVR6, CLEVR with masks of at most 6 objects (arXiv 2006.15055).

    python launch.py --config=configs/clevr6_slot_attention.py             # weighted mean
    python launch.py --config=configs/clevr6_slot_attention.py:weighted_sum
    python launch.py --config=configs/clevr6_slot_attention.py:batch_norm
    python launch.py --config=configs/clevr6_slot_attention.py:layer_norm
    python launch.py --config=configs/clevr6_slot_attention.py:implicit    # one-step gradient
    python launch.py --config=configs/clevr6_slot_attention.py:procedural  # on procedural data

Variants are joined by commas, `:batch_norm,procedural`. Two more stand for other papers' settings:

    :krimmel  arXiv 2407.04170: the true centre crop, nearest, mirrored images, and a rate that
              starts to halve after its warm-up; with each of the three aggregations
    :hhousen  github.com/HHousen/object-discovery-pytorch: leaky ReLU, no norm in the encoder,
              three iterations without and one with a gradient, at most 5 objects

Published, on the original data (%, mean ± std over seeds):

    | variant       | FG-ARI     |
    | weighted mean | 98.8 ± 0.3 |

500,000 steps of 64 images; the rate rises to 4e-4 in 10,000 steps and halves every 100,000.

Krimmel et al. compare the aggregations over the number of slots: weighted sum and batch norm
keep their FG-ARI with more slots and objects than in training (11 slots for up to 10 objects), the
weighted mean and layer norm lose. Their numbers are in figures that are not copied here. With a run
of each in DIR1, DIR2, ..., their figure is

    python -m akorn_jax.evaluation.cardinality --workdirs=DIR1,DIR2 --num_slots=7,11 --out=DIR

and a single point of it, --mode=evaluate with --config.eval.num_slots=11 and
--config.eval.min_objects=7.

One GPU; the paper's was a V100. Seeds differ: the background may get one slot or all of them.
"""

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import variants
from configs.families import slot_attention


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*slot_attention.VARIANTS, "krimmel", "hhousen"))
    if {"krimmel", "hhousen"} <= chosen:
        raise UserError("variants krimmel, hhousen exclude each other; choose one.")
    config = slot_attention.slot_discovery(
        "clevr6:slot_attention", chosen, image_size=128, num_slots=7, decoder="expanding"
    )
    if "krimmel" in chosen:
        config.data.crop = (24, 64, 216, 256)
        config.data.interpolation = "nearest"
        config.task.flip = True
        config.optimizer.learning_rate = 4e-4 * 0.5**0.1
        config.optimizer.decay_start = 10_000
    if "hhousen" in chosen:
        config.data.max_objects = 5
        config.data.train = (0, 26_176)  # of the first 70,000, as their checkpoints tell
        config.data.test = (26_176, 26_496)
        config.model.activation = "leaky_relu"
        config.model.encoder_norm = "none"
        config.model.gradient = "implicit"
        config.model.num_iterations = 4
    return config
