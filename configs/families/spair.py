"""SPAIR (Crawford & Pineau, AAAI 2019), as ClevrTex's authors run it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("procedural", "small")

# A model for images of 32 x 32 pixels with cells of 8.
_SMALL = {
    "image_size": 32,
    "backbone_channels": (16, 32, 64),
    "backbone_groups": (4, 8, 8),
    "feature_size": 64,
    "feature_groups": 8,
    "anchor_size": 20,
    "glimpse_size": 10,
    "what_size": 16,
    "pass_size": 32,
    "hidden_size": 64,
    "encoder_hidden": (128, 64),
    "decoder_channels": 12,
    "background_channels": (8, 8, 16, 16),
    "background_hidden": 32,
}

BETA = 2.7  # of all divergences of the cells


def linear(start: float, stop: float, num_values: int) -> dict[str, Any]:
    """The authors' `itr_lin`: `num_values` steps from `start` to `stop`, both included."""
    return {"name": "linear", "start": start, "stop": stop, "steps": num_values - 1}


def scenes(
    protocol_key: str,
    chosen: set[str],
    *,
    background_size: int,
    sigma: Any,
    presence_prior: Any,
    steps_per_epoch: int,
) -> ConfigDict:
    """Discovery of objects with boxes.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        background_size: see `akorn_jax.models.spair.Model`.
        sigma, presence_prior: numbers or schedules, see its call.
        steps_per_epoch: between looks at the validation scenes, after four of which without
            progress the rate falls.
    """
    config = base.get_config()
    config.num_steps = 250_000
    config.batch_size = 128
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("spair", background_size=background_size)
    config.task = task(sigma, presence_prior)
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "plateau"
    config.optimizer.plateau_min = 5e-5
    config.optimizer.clip_norm = 1.0
    config.eval_every = steps_per_epoch
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.evaluators = "segmentation,objects"
    if "small" in chosen:
        _shrink(config)
    return config


def task(
    sigma: Any, presence_prior: Any, beta: float = BETA, present_only: float = 0.0
) -> ConfigDict:
    """The reconstruction, the divergences of the cells times beta, and the background's."""
    cells = {f"kl_{part}": beta for part in ("where", "what", "depth", "pres")}
    return fields.task(
        "autoencoding",
        weights={"nll": 1.0, **cells, "kl_bg": 1.0},
        options={"sigma": sigma, "presence_prior": presence_prior, "present_only": present_only},
    )


def _shrink(config: ConfigDict) -> None:
    """Minutes on a CPU core: smaller in every way, and Adam at ten times the rate.

    Fewer pixels weigh less against as many divergences, so these count once. A prior that starts
    with few objects, as published, lets the background explain everything before there are any.
    """
    config.model = fields.model("spair", background_size=config.model.background_size, **_SMALL)
    config.task = task(sigma=0.1, presence_prior=0.99, beta=1.0)
    config.num_steps = 3_000
    config.batch_size = 16
    config.data.size = _SMALL["image_size"]
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 4_000)
    config.data.max_records = 4_000
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.optimizer.plateau_min = None
    config.eval_every = 0
    config.log_every = 100
    config.checkpoint_every = 1_000
