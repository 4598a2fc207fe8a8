"""MONet (arXiv 1901.11390), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import fields
from configs.families import autoencoding

VARIANTS = ("small", "procedural")


def discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """Object discovery with the benchmark's optimizer and weights.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`.
        model: arguments of `akorn_jax.models.monet.Model`.
    """
    config = autoencoding.discovery(
        protocol_key,
        chosen,
        fields.model("monet", **model),
        num_steps=1_000_000,
        batch_size=64,
    )
    # beta of the paper is the weight of kl, gamma that of kl_mask.
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 0.5, "kl_mask": 0.5})
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 1e-4
    if "small" in chosen:
        shrink(config)
    return config


def shrink(config: ConfigDict) -> None:
    """Five minutes on a CPU core: 16 x 16 pixels, narrow networks, Adam instead of RMSprop.

    Pixels deviate by less than published: the smaller the deviations, the less a slot that is one
    shade everywhere explains of the channels of several colours.
    """
    autoencoding.shrink(
        config,
        size=16,
        num_steps=3_000,
        batch_size=16,
        num_levels=3,
        channels=16,
        component_channels=16,
        latent_size=8,
        background_std=0.06,
        foreground_std=0.07,
    )
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 200
    config.log_every = 100
