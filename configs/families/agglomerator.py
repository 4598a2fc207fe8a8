"""Agglomerator (arXiv 2203.03282): pre-training by class, then a classifier on what is frozen."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol

VARIANTS = ("classify", "stable", "procedural", "small")
# 2,000 rounds of 45,000 // 1,024 steps, whatever the data, as the released code counts.
NUM_STEPS = 86_000
_PROCEDURAL_CLASSES = 6  # of the part-whole scenes that stand in for other data


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
        if not crop:
            model["image_size"] = int(config.data.name.rpartition("_")[2])
    if "small" in chosen:
        model |= {"channels": 16, "embedding_size": 64}
    config.model = fields.model(
        "agglomerator", num_classes=num_classes, mean=mean, std=std, **model
    )
    augmentation = {
        "name": "rand_augment",
        "size": crop,
        "num_ops": 2,
        "magnitude": 9,
        "erase": erase,
        "erase_color": (mean * 3)[:3],  # what the model sees as 0, with which torchvision erases
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
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 5e-4
    one_cycle(config, NUM_STEPS, 1e-3 if "stable" in chosen else 0.05)
    if "stable" in chosen:
        config.optimizer.clip_norm = 1.0
    if "small" in chosen:
        few(config, num_steps=300)
    return config


def one_cycle(config: ConfigDict, num_steps: int, peak: float) -> None:
    """The rate rises to its peak for 30 % of the steps and falls to nothing; b1 moves the other
    way, from 0.95 to 0.85 and back."""
    config.num_steps = num_steps
    cycle = {"name": "one_cycle", "steps": num_steps}
    with config.ignore_type():
        config.optimizer.learning_rate = ConfigDict({**cycle, "peak": peak})
        config.optimizer.b1 = ConfigDict(
            {**cycle, "peak": 0.85, "start_factor": 0.95 / 0.85, "stop_factor": 1.0}
        )


def few(config: ConfigDict, num_steps: int) -> None:
    """Few images and steps, at the stable peak rate."""
    one_cycle(config, num_steps, 1e-3)
    config.batch_size = 64
    if isinstance(config.data.split, str):  # one split, of which each part is a slice
        config.data.train, config.data.validation = (0, 4_000), (4_000, 4_320)
        config.data.test = (4_320, 4_640)
        config.data.max_records = 4_640
    else:
        config.data.train, config.data.validation = (0, 4_000), (4_000, 4_320)
        config.data.test = (0, 320)
        config.data.max_records = 4_320
    config.checkpoint_every = 100


def channels(*levels: float) -> tuple[float, ...]:
    """Levels of 255 in [0, 1]."""
    return tuple(level / 255 for level in levels)
