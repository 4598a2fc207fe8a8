"""IODINE (arXiv 1903.00450), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import fields
from configs.families import autoencoding

VARIANTS = ("released", "small", "procedural")


def discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """Object discovery with the benchmark's optimizer.

    It trains on 4 devices with 8 images each, whose mean the refinement's gradients are of; that
    number is kept on any number of devices, and at evaluation.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`.
        model: arguments of `akorn_jax.models.iodine.Model`.
    """
    config = autoencoding.discovery(
        protocol_key,
        chosen,
        fields.model("iodine", gradient_batch=8, **model),
        num_steps=1_000_000,
        batch_size=32,
    )
    config.model.released_tiling = "released" in chosen
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 1.0})
    config.optimizer.learning_rate = 3e-4
    config.optimizer.clip_norm = 5.0
    if "small" in chosen:
        shrink(config)
    return config


def shrink(config: ConfigDict) -> None:
    """Ten minutes on a CPU core: 16 x 16 pixels, narrow networks, 4 iterations.

    With the published deviation of 0.1, a black and a white slot everywhere explain saturated
    colours, channel by channel, for less than the mean image costs; with 0.5 for more. The KL ends
    at a 25th of its weight, as much less as a squared error counts then, and begins at a 500th.
    """
    num_steps = 6_000
    autoencoding.shrink(
        config,
        size=16,
        num_steps=num_steps,
        batch_size=8,
        slot_size=8,
        channels=16,
        hidden_size=64,
        num_iterations=4,
        std=0.5,
        init_gain=1.0,
    )
    kl = {"name": "linear", "start": 0.002, "stop": 0.04, "steps": num_steps}
    config.task = fields.task(
        "autoencoding", weights={"nll": 1.0, "kl": kl}, options={"kl_weight": kl}
    )
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 200
    config.optimizer.schedule = "cosine"
    config.log_every = 100
