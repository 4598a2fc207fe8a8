"""ResNet-18 on CIFAR-10, trained as AKOrN (configs/cifar10_akorn.py): what it is compared with.

    python launch.py --config=configs/cifar10_resnet.py --workdir=runs/cifar10_resnet
    python launch.py --config=configs/cifar10_resnet.py:procedural  # on synthetic scenes, to try it

A 3x3 stem without max pool, 11,173,962 parameters. What fools it can be tried on AKOrN:
--config.eval.robustness.transfer_from=runs/cifar10_resnet. Not measured here.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import recognition


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = recognition.cifar10("procedural" in chosen)
    config.model = fields.model("resnet_classifier")
    return config
