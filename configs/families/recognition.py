"""Recognition as AKOrN's paper trains it (arXiv 2410.13821): Adam 1e-4, a fast average."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol


def classification(
    protocol_key: str, *, procedural: bool, augmentation: dict[str, Any]
) -> ConfigDict:
    """One view of each image is classed; the averaged weights are what is attacked.

    Args:
        protocol_key: of configs/data.py.
        procedural: use procedural data.
        augmentation: see `akorn_jax.data.augment.make`.
    """
    config = base.get_config()
    config.data = protocol(protocol_key, procedural=procedural)
    config.task = fields.task("classification", augmentation=augmentation)
    config.batch_size = 128
    config.optimizer.learning_rate = 1e-4
    config.ema.decay = 0.99
    config.eval.evaluators = "classification,robustness"
    return config


def cifar10(procedural: bool) -> ConfigDict:
    """400 epochs of CIFAR-10's 50,000 images, in the views of the released code."""
    config = classification(
        "cifar10:akorn",
        procedural=procedural,
        augmentation={
            "size": 32, "scale": (0.2, 1.0), "flip": 0.5, "grayscale": 0.0,
            "jitter": 1.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
            "augmix": 3,
        },
    )  # fmt: skip
    config.num_steps = 156_000
    config.checkpoint_every = 3_900
    return config


def digits() -> ConfigDict:
    """scikit-learn's digits in a minute: their own views, a peak rate of 2e-3, 600 steps."""
    config = classification(
        "digits:writers",
        procedural=False,
        augmentation={"size": 8, "scale": (0.6, 1.0), "jitter": 0.0, "grayscale": 0.0},
    )
    config.num_steps = 600
    config.checkpoint_every = 600
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 20
    config.eval.robustness.epsilon = 16 / 255
    config.eval.robustness.num_images = 128
    config.eval.robustness.num_restarts = 2
    config.eval.robustness.num_starts = 4
    return config
