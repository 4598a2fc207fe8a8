"""Agglomerator (arXiv 2203.03282) on CIFAR-100, with random erasing.

    python launch.py --config=configs/cifar100_agglomerator.py --workdir=runs/cifar100
    python launch.py --config=configs/cifar100_agglomerator.py:classify \\
        --config.init_from.path=runs/cifar100 --workdir=runs/cifar100_classify

Variants :stable, :procedural and :small as in configs/cifar10_agglomerator.py. 64 columns of 128
features as for CIFAR-10; the released flag file would give 4 columns whose features are made of 2
channels (patch_size=4, patch_dim=32).
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, agglomerator.VARIANTS)
    return agglomerator.classes_and_islands(
        "cifar100:agglomerator",
        chosen,
        num_classes=100,
        erase=0.5,
        mean=agglomerator.channels(129.3, 124.1, 112.4),
        std=agglomerator.channels(68.2, 65.4, 70.4),
    )
