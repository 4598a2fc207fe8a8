"""GENESIS-V2 (arXiv 2104.09958), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

import math
from typing import Any

from ml_collections import ConfigDict

from configs import fields
from configs.families import autoencoding

VARIANTS = ("small", "procedural")


def discovery(protocol_key: str, chosen: set[str], *, goal: float, **model: Any) -> ConfigDict:
    """Object discovery with the benchmark's optimizer and GECO.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`.
        goal: of GECO, per pixel and channel.
        model: arguments of `akorn_jax.models.genesis_v2.Model`.
    """
    config = autoencoding.discovery(
        protocol_key,
        chosen,
        fields.model("genesis_v2", **model),
        num_steps=500_000,
        batch_size=32,
    )
    config.optimizer.learning_rate = 1e-4
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
    """Ten minutes on a CPU core: 32 x 32 pixels, the least that fits, and a narrow network.

    A smaller deviation than the published one makes the likelihood outweigh the KL at once, where
    GECO would take as many steps as this training has.
    """
    autoencoding.shrink(
        config, size=32, num_steps=8_000, batch_size=8, features=16, num_groups=2, std=0.2
    )
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.schedule = "cosine"
    config.log_every = 100
