"""MarioNette (arXiv 2104.14553): what its recipes share."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("small", "procedural")


def discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """The training of ClevrTex's authors: 200,000 steps of 8 images.

    Two groups of parameters, under AdamW with a decay of 0.01: the background's dictionary at ten
    times the rate of everything else.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        model: arguments of `akorn_jax.models.marionette.Model`.
    """
    config = base.get_config()
    config.num_steps = 200_000
    config.batch_size = 8
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("marionette", **model)
    config.task = fields.task(
        "autoencoding", weights={"mse": 1.0, "beta": 0.002, "presence": 0.005}
    )
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 1e-2
    if config.model.background_color is None:
        config.optimizer.groups = (("backgrounds/.*", 10.0),)
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.evaluators = "segmentation,sprites"
    config.eval.batch_size = 8
    return config


def shrink(config: ConfigDict, *, num_steps: int) -> None:
    """Minutes on a CPU core: small codes, one layer, ten times the rate."""
    config.model.code_size = 32
    config.model.num_layers = 1
    config.model.num_sprites = 24
    config.model.background_code_size = 24
    config.num_steps = num_steps
    config.optimizer.learning_rate = 1e-3
    config.log_every = 100
    config.checkpoint_every = num_steps // 2


def shrink_clevr(config: ConfigDict) -> None:
    """`shrink`, and a few thousand scenes of 64 x 64 pixels."""
    config.model.image_size = 64
    config.model.grid_size = 8
    config.data.size = 64
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 4000)
    config.data.max_records = 4000
    shrink(config, num_steps=1500)
