"""SLATE (arXiv 2110.11405): what its recipes share."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("small", "procedural")


def discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """The released training, singhgautam/slate, on any data.

    Two groups of parameters: the discrete VAE at a constant rate of 3e-4, everything else at 1e-4
    after a linear warm-up of 30,000 steps, which is also how long the temperature falls from 1 to
    0.1. All gradients are scaled so that the largest entry is at most 1. The released code also
    halves both rates after four epochs without a better validation loss; this is left out.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        model: arguments of `akorn_jax.models.slate.Model`.
    """
    config = base.get_config()
    config.batch_size = 50
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("slate", **model)
    _train(config, cooling=30_000, warmup=30_000, rate=1e-4, dvae_rate=3e-4)
    config.ema.decay = 0.0
    config.ema.every = 1
    return config


def shrink(config: ConfigDict, *, num_steps: int) -> None:
    """Sizes and rates of the variant `small`: minutes on two CPU cores."""
    config.num_steps = num_steps
    config.batch_size = 32
    config.model.update(
        {
            "vocab_size": 256,
            "channels": 64,
            "slot_size": 64,
            "hidden_size": 128,
            "num_blocks": 2,
            "num_heads": 4,
            "dropout": 0.0,
            "dvae_channels": 32,
        }
    )
    _train(config, cooling=num_steps // 2, warmup=num_steps // 10, rate=1e-3, dvae_rate=2e-3)
    config.checkpoint_every = 500
    config.eval.batch_size = 32


def _train(config: ConfigDict, *, cooling: int, warmup: int, rate: float, dvae_rate: float) -> None:
    config.task = fields.task(
        "autoencoding",
        weights={"mse": 1.0, "cross_entropy": 1.0},
        options={"temperature": {"name": "cosine", "start": 1.0, "stop": 0.1, "steps": cooling}},
    )
    with config.ignore_type():
        config.optimizer.learning_rate = ConfigDict(
            {"name": "warmup", "steps": warmup, "offset": 1, "then": rate}
        )
    config.optimizer.groups = (("dvae/.*", {"learning_rate": dvae_rate}),)
    config.optimizer.clip_value = 1.0
