"""GENESIS-V2 (arXiv 2104.09958), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from akorn_jax.models.genesis_v2 import least_error
from configs import fields
from configs.families import autoencoding

VARIANTS = ("small", "procedural")
MARGIN = 0.04  # of the small variant's goal above the least error, per pixel and channel


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
    settings = geco(config.model, None if "small" in chosen else goal)
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": "geco"}, geco=settings)
    return config


def geco(model: ConfigDict, goal: float | None) -> dict[str, Any]:
    """GECO's settings, which the benchmark scales with the number of pixels.

    Args:
        model: whose size of images, and deviation of pixels, they follow.
        goal: per pixel and channel; None is a `MARGIN` above the least error.
    """

    def per_image(size: int, std: float) -> float:
        aim = least_error(std) + MARGIN if goal is None else goal
        return aim * 3 * size**2

    return {
        "term": "nll",
        "form": "exponential",
        "goal": fields.computed(per_image, model, "image_size", "std"),
        "step_size": fields.computed(lambda size: 1e-5 * (64 / size) ** 2, model, "image_size"),
        "decay": 0.99,
        "speedup": 10.0,
        "beta": 1.0,
        "beta_min": 1e-10,
        "beta_max": 1e10,
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
