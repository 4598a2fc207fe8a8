"""AKOrN for recognition (arXiv 2410.13821) on scikit-learn's handwritten digits: a minute on a CPU.

    python launch.py --config=configs/digits_akorn.py --workdir=runs/digits_akorn
    python launch.py --config=configs/digits_akorn.py --config.model.oscillator_dim=4 \\
        --workdir=runs/digits_akorn_n4

Evaluation attacks the classifier in the ways of `akorn_jax/evaluation/robustness.py`, also by what
fools another run: --config.eval.robustness.transfer_from=runs/digits_resnet.

Departures from configs/cifar10_akorn.py: two layers of 16 and 32 channels with kernels of 5 and 3,
views that are cropped and nothing else, 600 steps at a rate that falls from 2e-3. 1,000 digits
train, the last 500, of other writers, test.

Measured: docs/results/recognition.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import recognition


def get_config(variant: str = "") -> ConfigDict:
    variants.choose(variant, ())
    config = recognition.digits()
    config.model = fields.model("akorn_classifier", channels=16, num_layers=2, kernel_size=(5, 3))
    return config
