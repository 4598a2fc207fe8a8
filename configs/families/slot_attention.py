"""Slot Attention (arXiv 2006.15055), with the normalisations of arXiv 2407.04170 as variants."""

from typing import Any

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import base, fields
from configs.protocols import protocol
from configs.published import published

# How slots gather what they win: variants of every Slot Attention recipe.
_AGGREGATIONS = {
    "layer_norm": "layer_norm",
    "batch_norm": "scalar_batch_norm",
    "weighted_sum": "constant",
}
VARIANTS = (*_AGGREGATIONS, "implicit", "procedural")


def share(config: ConfigDict, chosen: set[str]) -> None:
    """Sets what every recipe of Slot Attention shares, and the variants of `VARIANTS`.

    The rate rises for 10,000 steps and halves every 100,000, from the first step on; the weights
    are not averaged.

    Raises:
        UserError: for two aggregations at once.
    """
    aggregations = [name for name in _AGGREGATIONS if name in chosen]
    if len(aggregations) > 1:
        raise UserError(f"variants {', '.join(aggregations)} exclude each other; choose one.")
    for name in aggregations:
        config.model.aggregation = _AGGREGATIONS[name]
    if "implicit" in chosen:
        config.model.gradient = "implicit"
    config.optimizer.learning_rate = 4e-4
    config.optimizer.warmup_steps = 10_000
    config.optimizer.schedule = "exponential"
    config.optimizer.decay_rate = 0.5
    config.optimizer.decay_steps = 100_000
    config.ema.decay = 0.0
    config.ema.every = 1


def shrink(config: ConfigDict) -> None:
    """Minutes on two CPU cores: 32 x 32 pixels, kernels of 3, a quarter of the channels."""
    config.num_steps = 3_000
    config.batch_size = 16
    config.data.size = 32
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 12_000)
    config.data.max_records = 12_000
    config.model.image_size = 32
    config.model.channels = 16
    config.model.kernel_size = 3
    config.model.slot_size = 32
    config.model.hidden_size = 64
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 200
    config.optimizer.decay_steps = 3_000


def slot_discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """Object discovery as in the Slot Attention paper (arXiv 2006.15055).

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        model: arguments of `akorn_jax.models.slot_attention.Model`.
    """
    config = base.get_config()
    config.num_steps = 500_000
    config.batch_size = 64
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("slot_attention", **model)
    config.task = fields.task("autoencoding")
    share(config, chosen)
    return config
