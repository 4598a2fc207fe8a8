"""Agglomerator (arXiv 2203.03282) on Fashion-MNIST.

    python launch.py --config=configs/fashion_mnist_agglomerator.py --workdir=runs/fashion
    python launch.py --config=configs/fashion_mnist_agglomerator.py:classify \\
        --config.init_from.path=runs/fashion --workdir=runs/fashion_classify

Variants :stable, :procedural and :small as in configs/cifar10_agglomerator.py. 49 columns of 64
features, of one channel; the released flag file's patches of 4 do not tile its 7x7 feature map.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, agglomerator.VARIANTS)
    return agglomerator.classes_and_islands(
        "fashion_mnist:agglomerator",
        chosen,
        num_classes=10,
        image_size=28,
        channels=64,
        num_colors=1,
        mean=(0.5,),
        std=(0.5,),
    )
