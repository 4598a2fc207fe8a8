"""SPACE (arXiv 2001.02407), as ClevrTex's authors run it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("procedural", "small")

TERMS = (
    "nll",
    *(f"kl_{part}" for part in ("pres", "depth", "scale", "shift", "what", "bg_mask", "bg_comp")),
    "boundary",
)


def linear(start: float, stop: float, begin: int, end: int) -> dict[str, Any]:
    """A schedule from `start` at step `begin` to `stop` at step `end`."""
    return {"name": "linear", "start": start, "stop": stop, "begin": begin, "steps": end - begin}


# At first objects are cheap; then they become rare, and at last small.
PRESENCE_PRIOR = linear(0.1, 0.01, 4_000, 10_000)
SCALE_PRIOR = linear(-1.0, -2.0, 10_000, 20_000)


def scenes(protocol_key: str, chosen: set[str]) -> ConfigDict:
    """Discovery of objects with boxes, on a segmented background.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
    """
    config = base.get_config()
    config.num_steps = 160_000
    config.batch_size = 16
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("space")
    config.task = task(PRESENCE_PRIOR, SCALE_PRIOR)
    # Adam for the background, which learns at once; RMSprop, slowly, for the objects.
    config.optimizer.learning_rate = 1e-3
    config.optimizer.groups = (("foreground/.*", {"name": "rmsprop", "learning_rate": 1e-5}),)
    config.optimizer.clip_norm = 1.0
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.evaluators = "segmentation,objects"
    config.eval.batch_size = 16
    return config


def task(presence_prior: Any, scale_prior: Any) -> ConfigDict:
    """The sum of all terms, under schedules of the two priors."""
    return fields.task(
        "autoencoding",
        weights=dict.fromkeys(TERMS, 1.0),
        options={"presence_prior": presence_prior, "scale_prior": scale_prior},
    )
