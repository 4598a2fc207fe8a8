"""IODINE on ClevrTex, as its authors ran it (arXiv 2111.10265).

python launch.py --config=configs/clevrtex_iodine.py
python launch.py --config=configs/clevrtex_iodine.py:released  # mixes images as the benchmark
python launch.py --config=configs/clevrtex_iodine.py:procedural  # on procedural data
python launch.py --config=configs/clevrtex_iodine.py:small,procedural  # minutes on a CPU

1,000,000 steps of 32 images (4 devices with 8 each), Adam 3e-4, gradients clipped to a norm of 5;
5 iterations, standard deviation 0.1.

The released code shows the refinement of a slot other images of the batch most of the time, and
published numbers come from it; `:released` does the same (`akorn_jax.models.iodine.Model`).

What it reached is to be read off the paper's tables.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import iodine


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, iodine.VARIANTS)
    return iodine.discovery("clevrtex_full:clevrtex", chosen, image_size=128, num_slots=11)
