"""ResNet-18 on scikit-learn's handwritten digits, beside AKOrN: a minute on a CPU.

    python launch.py --config=configs/digits_resnet.py --workdir=runs/digits_resnet

Trained and evaluated as configs/digits_akorn.py; 16 to 128 channels, 701,466 parameters.

Measured: docs/results/recognition.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import recognition


def get_config(variant: str = "") -> ConfigDict:
    variants.choose(variant, ())
    config = recognition.digits()
    config.model = fields.model("resnet_classifier", channels=16)
    return config
