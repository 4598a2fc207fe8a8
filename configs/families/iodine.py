"""IODINE (arXiv 1903.00450), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

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
    config = base.get_config()
    config.num_steps = 1_000_000
    config.batch_size = 32
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("iodine", gradient_batch=8, **model)
    config.model.released_tiling = "released" in chosen
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 1.0})
    config.optimizer.learning_rate = 3e-4
    config.optimizer.clip_norm = 5.0
    config.ema.decay = 0.0
    config.ema.every = 1
    if "small" in chosen:
        shrink(config)
    return config


def shrink(config: ConfigDict) -> None:
    """Minutes on a CPU: 16 x 16 pixels, a narrow network, 3 iterations, a few thousand scenes."""
    config.num_steps = 2_000
    config.batch_size = 8
    config.data.size = 16
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 3_840)
    config.data.max_records = 3_840
    config.model.image_size = 16
    config.model.slot_size = 16
    config.model.channels = 16
    config.model.hidden_size = 64
    config.model.num_iterations = 3
    config.optimizer.learning_rate = 1e-3
