"""Agglomerator (arXiv 2203.03282) on smallNORB, both cameras' pictures.

    python launch.py --config=configs/small_norb_agglomerator.py --workdir=runs/norb
    python launch.py --config=configs/small_norb_agglomerator.py:classify \\
        --config.init_from.path=runs/norb --workdir=runs/norb_classify

Variants :stable, :procedural and :small as in configs/cifar10_agglomerator.py. Pictures of 48x48,
of which views are random crops of 32x32 and tests the central one. 64 columns of 32 features, of
one channel; the released flag file's patches of 24 leave its tokenizer no channels. The validation
part has the same toys as train, the test others.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, agglomerator.VARIANTS)
    return agglomerator.classes_and_islands(
        "small_norb:agglomerator",
        chosen,
        num_classes=5,
        crop=32,
        channels=32,
        num_colors=1,
        mean=(0.5,),
        std=(0.5,),
    )
