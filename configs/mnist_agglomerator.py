"""Agglomerator (arXiv 2203.03282) on MNIST.

    python launch.py --config=configs/mnist_agglomerator.py --workdir=runs/mnist
    python launch.py --config=configs/mnist_agglomerator.py:classify \\
        --config.init_from.path=runs/mnist --workdir=runs/mnist_classify

Variants :stable, :procedural and :small as in configs/cifar10_agglomerator.py. 49 columns of 64
features; the released flag file's patches of 4 do not tile its 7x7 feature map.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, agglomerator.VARIANTS)
    return agglomerator.classes_and_islands(
        "mnist:agglomerator", chosen, num_classes=10, image_size=28, channels=64
    )
