"""MONet (arXiv 1901.11390), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("small", "procedural")


def discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """Object discovery with the benchmark's optimizer and weights.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`.
        model: arguments of `akorn_jax.models.monet.Model`.
    """
    config = base.get_config()
    config.num_steps = 1_000_000
    config.batch_size = 64
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("monet", **model)
    # beta of the paper is the weight of kl, gamma that of kl_mask.
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 0.5, "kl_mask": 0.5})
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 1e-4
    config.ema.decay = 0.0
    config.ema.every = 1
    if "small" in chosen:
        shrink(config)
    return config


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
    config.model.num_levels = 4
    config.model.channels = 8
    config.model.component_channels = 8
    config.model.latent_size = 8
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
