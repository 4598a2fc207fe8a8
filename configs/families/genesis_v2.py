"""GENESIS-V2 (arXiv 2104.09958), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

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
    config.task = fields.task(
        "autoencoding", weights={"nll": 1.0, "kl": "geco"}, geco=geco(config.model, goal)
    )
    if "small" in chosen:
        shrink(config)
    return config


def geco(model: ConfigDict, goal: float) -> dict[str, Any]:
    """GECO's settings, which the benchmark scales with the number of pixels.

    Args:
        model: whose size of images they follow.
        goal: per pixel and channel.
    """
    return {
        "term": "nll",
        "form": "exponential",
        "goal": fields.computed(lambda size: goal * 3 * size**2, model, "image_size"),
        "step_size": fields.computed(lambda size: 1e-5 * (64 / size) ** 2, model, "image_size"),
        "decay": 0.99,
        "speedup": 10.0,
        "beta": 1.0,
        "beta_min": 1e-10,
        "beta_max": 1e10,
    }


def shrink(config: ConfigDict) -> None:
    """Nine minutes on a CPU core: 32 x 32 pixels, the least that fits, and half the width.

    Embeddings are of features alone: those that know their position begin as it, and masks stay
    regions of the image for as long as this training lasts. The KL hardly counts, since at its full
    weight slots say nothing of the image before they have learned to. Of pixels' deviations see
    configs/families/iodine.py.
    """
    autoencoding.shrink(
        config,
        size=32,
        num_steps=8_000,
        batch_size=8,
        features=32,
        num_groups=4,
        semi_conv=False,
        std=0.35,
    )
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 2e-4})
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.schedule = "cosine"
    config.log_every = 100


def shrink_solids(config: ConfigDict) -> None:
    """The small recipe for up to ten objects of muted colours: a smaller deviation of pixels, and
    half the steps, as eleven slots take three times as long as four."""
    config.num_steps = 4_000
    config.model.std = 0.2
