"""GENESIS-V2 (arXiv 2104.09958), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

import math
from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("small", "procedural")


def discovery(protocol_key: str, chosen: set[str], *, goal: float, **model: Any) -> ConfigDict:
    """Object discovery with the benchmark's optimizer and GECO.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`.
        goal: of GECO, per pixel and channel.
        model: arguments of `akorn_jax.models.genesis_v2.Model`.
    """
    config = base.get_config()
    config.num_steps = 500_000
    config.batch_size = 32
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("genesis_v2", **model)
    config.optimizer.learning_rate = 1e-4
    config.ema.decay = 0.0
    config.ema.every = 1
    if "small" in chosen:
        shrink(config)
        goal = least_error(config.model.std) + 0.04
    config.task = fields.task(
        "autoencoding", weights={"nll": 1.0, "kl": "geco"}, geco=geco(config, goal)
    )
    return config


def least_error(std: float) -> float:
    """The -log likelihood, per pixel and channel, of a perfect reconstruction."""
    return math.log(std * math.sqrt(2 * math.pi))


def geco(config: ConfigDict, goal: float) -> dict[str, Any]:
    """GECO's settings, which the benchmark scales with the number of pixels."""
    size = config.model.image_size
    return {
        "term": "nll",
        "form": "exponential",
        "goal": goal * 3 * size**2,
        "step_size": 1e-5 * (64 / size) ** 2,
        "decay": 0.99,
        "speedup": 10.0,
        "minimum": least_error(config.model.std) * 3 * size**2,
    }


def shrink(config: ConfigDict) -> None:
    """Minutes on two CPU cores: 32 x 32 pixels, a narrow network, a few thousand scenes."""
    config.num_steps = 1_200
    config.batch_size = 8
    config.data.size = 32
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 3_840)
    config.data.max_records = 12_000
    config.model.image_size = 32
    config.model.features = 16
    config.model.num_groups = 2
    config.model.std = 0.2
    config.optimizer.learning_rate = 1e-3
