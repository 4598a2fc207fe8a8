"""AKOrN on CIFAR-10 (arXiv 2410.13821, section on robust recognition).

    python launch.py --config=configs/cifar10_akorn.py --workdir=runs/cifar10_akorn
    python launch.py --config=configs/cifar10_akorn.py:procedural  # on synthetic scenes, to try it

Three layers of 64, 128 and 256 channels, oscillators of dimension 2, T = 3: 7,023,760 parameters.
Adam 1e-4, 128 images a step, 400 epochs (156,000 steps; the official loop makes a partial batch of
each epoch's rest and so takes 156,400). Views as in the released code: flip, crop, colours, AugMix.

Evaluation attacks the classifier (akorn_jax/evaluation/robustness.py); the released code attacks
single random starts by FGSM and PGD, which randomness alone can mislead. CIFAR-10-C:
--mode=evaluate --config.eval.datasets=cifar10_c/fog,cifar10_c/jpeg_compression. The repository
has no table of results; not measured here.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import recognition


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = recognition.cifar10("procedural" in chosen)
    config.model = fields.model("akorn_classifier")
    return config
