"""Agglomerator (arXiv 2203.03282) on ImageNet.

    python launch.py --config=configs/imagenet_agglomerator.py --workdir=runs/imagenet \\
        --config.data.raw_dir=DIR
    python launch.py --config=configs/imagenet_agglomerator.py:classify --config.data.raw_dir=DIR \\
        --config.init_from.path=runs/imagenet --workdir=runs/imagenet_classify

DIR has train/CLASS/*.JPEG and val/CLASS/*.JPEG. Variants :stable, :procedural and :small as in
configs/cifar10_agglomerator.py.

The released flag file cannot run: patches of 32 leave its tokenizer no channels, and without them
the 64x64 columns' features would need a hidden layer of 131,072 x 131,072. Here 64x64 columns of 32
features attend within 8 columns, and the head reads means over 8x8 of them. Views are random crops
of 256 pixels of the central 288x288, of which 50,000 of train are held out and the published
validation set is the test. No accuracy is published.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, agglomerator.VARIANTS)
    synthetic = "procedural" in chosen  # of 48 pixels
    config = agglomerator.classes_and_islands(
        "imagenet:agglomerator",
        chosen,
        num_classes=1000,
        crop=32 if synthetic else 256,
        image_size=32 if synthetic else 256,
        channels=32,
        head_pool=1 if synthetic else 8,
        radius=0.0 if synthetic else 8.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    config.data.loading = "resident" if synthetic else "stream"
    return config
