"""Agglomerator (arXiv 2203.03282): pre-training by class, then a classifier on what is frozen."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol

VARIANTS = ("classify", "stable", "procedural")
# 2,000 rounds of 45,000 // 1,024 steps, whatever the data, as the released code counts.
NUM_STEPS = 86_000
# The classes of the part-whole scenes that stand in for other data.
_PROCEDURAL_CLASSES = 6


def classes_and_islands(
    protocol_key: str,
    chosen: set[str],
    *,
    num_classes: int,
    crop: int = 0,
    erase: float = 0.0,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
    **model: Any,
) -> ConfigDict:
    """Pre-training by SupCon or, with "classify", the classifier alone on one view of an image.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        num_classes: of the data.
        crop: side of the random crops, in pixels; 0 keeps the images.
        erase: probability of erasing a rectangle of a view.
        mean, std: of the images' channels, in [0, 1].
        model: further arguments of `akorn_jax.models.agglomerator.Model`.
    """
    config = base.get_config()
    config.batch_size = 1024
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    if "procedural" in chosen:
        num_classes = _PROCEDURAL_CLASSES
        size = int(config.data.name.rpartition("_")[2])
        model |= {} if crop else {"image_size": size}
    config.model = fields.model(
        "agglomerator", num_classes=num_classes, mean=mean, std=std, **model
    )
    # The channels' mean is what the model sees as 0, which torchvision erases with.
    color = (tuple(mean) * 3)[:3]
    augmentation = {
        "name": "rand_augment",
        "size": crop,
        "num_ops": 2,
        "magnitude": 9,
        "erase": erase,
        "erase_color": color,
    }
    if "classify" in chosen:
        config.task = fields.task("classification", augmentation=augmentation, frozen=True)
        config.optimizer.groups = (("(?!classifier/).*", 0),)
    else:
        config.task = fields.task(
            "contrastive",
            temperature=0.07,
            normalize=True,
            augmentation=augmentation,
            labels="label",
            base_temperature=0.07,
        )
        # What has no gradient is not decayed either.
        config.optimizer.groups = (("classifier/.*", 0),)
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.evaluators = "classification,islands"
    share(config, NUM_STEPS, 1e-3 if "stable" in chosen else 0.05)
    return config


def share(config: ConfigDict, num_steps: int, peak: float) -> None:
    """AdamW on one cycle: the rate rises to its peak for 30 % of the steps, falls to nothing, and
    b1 moves the other way."""
    config.num_steps = num_steps
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 5e-4
    cycle = {"name": "one_cycle", "steps": num_steps}
    with config.ignore_type():
        config.optimizer.learning_rate = ConfigDict({**cycle, "peak": peak})
        config.optimizer.b1 = ConfigDict(
            {**cycle, "peak": 0.85, "start_factor": 0.95 / 0.85, "stop_factor": 1.0}
        )
