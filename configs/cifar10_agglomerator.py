"""Agglomerator (arXiv 2203.03282) on CIFAR-10.

    python launch.py --config=configs/cifar10_agglomerator.py --workdir=runs/cifar10
    python launch.py --config=configs/cifar10_agglomerator.py:classify \\
        --config.init_from.path=runs/cifar10 --workdir=runs/cifar10_classify

The first command pre-trains by class: SupCon on two views by RandAugment. The second trains the
classifier on what is then frozen. Evaluation scores both, exports the contrastive features
(features.npz), and draws the islands. A released checkpoint is a start as well:
`--config.init_from.path=FILE.ckpt`.

    :stable      a peak rate of 1e-3 and gradients clipped to norm 1; the published peak of 0.05 is
                 high for AdamW
    :procedural  on synthetic scenes of parts and wholes
    :small       few features, images and steps, to try the machinery on a CPU: with :procedural

86,000 steps of 1,024 images, AdamW with weight decay 5e-4 on one cycle. 64 columns of 128 features:
the released model's; the released flag file would give 4 columns (patch_size=4). One GPU of 40 GB.
The paper's table is not copied here.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, agglomerator.VARIANTS)
    return agglomerator.classes_and_islands(
        "cifar10:agglomerator",
        chosen,
        num_classes=10,
        mean=agglomerator.channels(125.3, 123.0, 113.9),
        std=agglomerator.channels(63.0, 62.1, 66.7),
    )
